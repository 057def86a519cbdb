import { Badge, Button, Group, SimpleGrid, Stack, Switch, Title } from "@mantine/core"
import { IconArrowLeft } from "@tabler/icons-react"
import { useEffect, useRef, useState } from "react"
import { useSearchParams } from "wouter"
import { api, live } from "../../api"
import { Empty, Told } from "../../parts/Told"
import { useAction, useApi } from "../../use"
import { Browser } from "./Browser"
import { ObjectPanel } from "./ObjectPanel"
import { Policy } from "./Policy"
import { type Bucket, bucketPath, type Heard } from "./types"

/** One bucket: its files, the one that is open, and its policy. */
export function BucketPage({ name, back }: { name: string; back: () => void }) {
  const [params, setParams] = useSearchParams()
  const [version, setVersion] = useState(0)
  const [turn, setTurn] = useState(0)
  const { data, error, reload } = useApi<Bucket[]>("/api/objects/buckets")
  const bucket = data?.find((one) => one.name === name)
  const prefix = params.get("prefix") ?? ""
  const key = params.get("key")
  const set = (next: { prefix: string; key?: string }) => setParams({ bucket: name, ...(next.prefix ? { prefix: next.prefix } : {}), ...(next.key ? { key: next.key } : {}) })
  const changed = () => (setVersion((n) => n + 1), setTurn((n) => n + 1))
  const open = useRef(key)
  open.current = key
  const there = bucket !== undefined
  // What anybody does to the bucket shows by itself, over whichever door.
  useEffect(() => {
    if (!there) return
    return live<Heard>(`/api/objects/events?bucket=${encodeURIComponent(name)}`, ({ events, missed }) => {
      if (events.length || missed) setVersion((n) => n + 1)
      if (missed || events.some((event) => event.key === open.current)) setTurn((n) => n + 1)
    })
  }, [name, there])
  const versions = useAction(async (enabled: boolean) => {
    await api(`${bucketPath(name)}/versioning`, { method: "PUT", body: { enabled } })
    reload()
  })
  const remove = useAction(async () => {
    await api(bucketPath(name), { method: "DELETE" })
    back()
  })
  return (
    <Stack>
      <Group justify="space-between">
        <Group gap="sm">
          <Button size="xs" variant="default" leftSection={<IconArrowLeft size={14} />} onClick={back}>
            Buckets
          </Button>
          <Title order={2} size="h3">
            {name}
          </Title>
          {bucket?.lock && <Badge color="yellow">lock</Badge>}
        </Group>
        <Group gap="sm">
          {bucket && (
            <Switch
              label="keep versions"
              checked={bucket.versioning === "enabled"}
              disabled={bucket.lock || versions.busy}
              onChange={(event) => versions.run(event.currentTarget.checked)}
            />
          )}
          <Button size="xs" variant="subtle" color="red" loading={remove.busy} onClick={() => remove.run()}>
            Delete the bucket
          </Button>
        </Group>
      </Group>
      <Told problem={error ?? versions.error ?? remove.error} />
      {data && !bucket && <Empty>There is no such bucket of yours.</Empty>}
      {bucket && (
        <SimpleGrid cols={{ base: 1, md: key ? 2 : 1 }} style={{ alignItems: "start" }}>
          <Browser bucket={bucket} prefix={prefix} go={(to) => set({ prefix: to })} open={(one) => set({ prefix, key: one })} version={version} changed={changed} />
          {key && <ObjectPanel key={key} bucket={bucket} name={key} turn={turn} changed={changed} close={() => set({ prefix })} />}
        </SimpleGrid>
      )}
      {bucket && <Policy bucket={name} />}
    </Stack>
  )
}
