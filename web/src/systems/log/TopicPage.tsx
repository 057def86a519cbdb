import { Badge, Button, Grid, Group, Stack, Tabs, Title } from "@mantine/core"
import { IconArrowLeft } from "@tabler/icons-react"
import { useState } from "react"
import { api } from "../../api"
import { Told } from "../../parts/Told"
import { useAction, useApi } from "../../use"
import { Browse } from "./Browse"
import { size } from "./bytes"
import { Produce } from "./Produce"
import { Settings } from "./Settings"
import { Storage } from "./Storage"
import { Tail } from "./Tail"
import type { Topic } from "./types"

/** One topic: produce and watch, browse, what lies on the disk, what can be set. */
export function TopicPage({ name, back }: { name: string; back: () => void }) {
  const path = `/api/log/topics/${name}`
  const { data: topic, error, reload } = useApi<Topic>(path, 2000)
  const [tab, setTab] = useState("live")
  const drop = useAction(async () => {
    await api(path, { method: "DELETE" })
    back()
  })
  const { records = 0, size_bytes: bytes = 0, partition_count: count = 0 } = topic ?? {}
  return (
    <Stack>
      <Group justify="space-between">
        <Button variant="subtle" size="compact-sm" leftSection={<IconArrowLeft size={16} />} onClick={back}>
          All topics
        </Button>
        {topic && !topic.internal && (
          <Button variant="subtle" color="red" size="compact-sm" loading={drop.busy} onClick={() => confirm(`${name} and its ${records.toLocaleString()} records will be gone. Delete it?`) && drop.run()}>
            Delete
          </Button>
        )}
      </Group>
      <Told problem={error ?? drop.error} />
      {topic && (
        <>
          <Group gap="xs">
            <Title order={2} size="h3" className="mono">
              {name}
            </Title>
            <Badge variant="default" tt="none">
              {count.toLocaleString()} {count === 1 ? "partition" : "partitions"}
            </Badge>
            <Badge variant="default" tt="none" data-testid="records">
              {records.toLocaleString()} {records === 1 ? "record" : "records"}
            </Badge>
            <Badge variant="default" tt="none">
              {size(bytes)}
            </Badge>
            {topic.internal && <Badge color="gray">internal</Badge>}
          </Group>
          <Tabs value={tab} onChange={(value) => setTab(value ?? "live")} keepMounted={false}>
            <Tabs.List mb="md">
              <Tabs.Tab value="live">Live</Tabs.Tab>
              <Tabs.Tab value="browse">Browse</Tabs.Tab>
              <Tabs.Tab value="storage">Storage</Tabs.Tab>
              <Tabs.Tab value="settings">Settings</Tabs.Tab>
            </Tabs.List>
            <Tabs.Panel value="live">
              <Grid>
                {!topic.internal && (
                  <Grid.Col span={{ base: 12, lg: 5 }}>
                    <Produce topic={name} partitions={count} />
                  </Grid.Col>
                )}
                <Grid.Col span={{ base: 12, lg: topic.internal ? 12 : 7 }}>
                  <Tail topic={name} partitions={count} />
                </Grid.Col>
              </Grid>
            </Tabs.Panel>
            <Tabs.Panel value="browse">
              <Browse topic={name} partitions={count} />
            </Tabs.Panel>
            <Tabs.Panel value="storage">
              <Storage topic={topic} />
            </Tabs.Panel>
            <Tabs.Panel value="settings">
              <Settings topic={topic} onSaved={reload} />
            </Tabs.Panel>
          </Tabs>
        </>
      )}
    </Stack>
  )
}
