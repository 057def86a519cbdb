import { Anchor, Badge, Button, Group as Row, NumberInput, Progress, Select, SimpleGrid, Stack, Table, Text, TextInput, Title } from "@mantine/core"
import { IconArrowLeft } from "@tabler/icons-react"
import { type FormEvent, useState } from "react"
import { api } from "../../api"
import { Panel } from "../../parts/Panel"
import { Empty, Told } from "../../parts/Told"
import { useAction, useApi } from "../../use"
import { PagedTable } from "./PagedTable"
import type { Group, GroupRow, Moved, Standing } from "./types"

const columns = [{ title: "Name" }, { title: "State" }, { title: "Members", right: true }, { title: "Topics" }, { title: "Lag", right: true }]

/** Who reads what, and how far behind. */
export function Groups({ open }: { open: (name: string) => void }) {
  return (
    <Panel title="Groups" hint="Each record goes to one member of a group; the lag is what lies ahead of it.">
      <PagedTable<GroupRow>
        path="/api/log/groups?limit=50"
        everyMs={3000}
        columns={columns}
        keyOf={(one) => one.name}
        empty="Nobody has read with a group yet. Start a consumer; the lines are under From code."
        testId="groups"
        minWidth={520}
        row={(one) => (
          <>
            <Table.Td>
              <Anchor component="button" type="button" onClick={() => open(one.name)} fw={600} ta="left" style={{ overflowWrap: "anywhere" }}>
                {one.name}
              </Anchor>
            </Table.Td>
            <Table.Td>
              <State state={one.state} kind={one.kind} />
            </Table.Td>
            <Table.Td ta="right">{one.members}</Table.Td>
            <Table.Td>{one.topics.join(", ")}</Table.Td>
            <Table.Td ta="right">{one.lag.toLocaleString()}</Table.Td>
          </>
        )}
      />
    </Panel>
  )
}

function State({ state, kind }: { state: string; kind: string }) {
  return (
    <Row gap={4}>
      <Badge size="sm" variant="light" color={state === "Stable" ? "teal" : state === "Empty" ? "gray" : "yellow"} tt="none">
        {state}
      </Badge>
      <Badge size="sm" variant="default" tt="none">
        {kind}
      </Badge>
    </Row>
  )
}

/** One group: where it stands in every partition, who is in it, and setting it elsewhere. */
export function GroupPage({ name, back }: { name: string; back: () => void }) {
  const path = `/api/log/groups/${encodeURIComponent(name)}`
  const { data: group, error, reload } = useApi<Group>(path, 2000)
  return (
    <Stack>
      <div>
        <Button variant="subtle" size="compact-sm" leftSection={<IconArrowLeft size={16} />} onClick={back}>
          All groups
        </Button>
      </div>
      <Told problem={error} />
      {group && (
        <>
          <Row gap="xs">
            <Title order={2} size="h3" className="mono">
              {name}
            </Title>
            <State state={group.state} kind={group.kind} />
            <Badge variant="default" tt="none">
              generation {group.epoch}
            </Badge>
            {group.assignor && (
              <Badge variant="default" tt="none">
                {group.assignor}
              </Badge>
            )}
          </Row>
          <Lag standing={group.standing} lag={group.lag} />
          <SimpleGrid cols={{ base: 1, lg: 2 }} style={{ alignItems: "start" }}>
            <Members group={group} />
            <Reset group={group} path={path} onMoved={reload} />
          </SimpleGrid>
        </>
      )}
    </Stack>
  )
}

function Lag({ standing, lag }: { standing: Standing[]; lag: number }) {
  return (
    <Panel title="Lag" hint={`${lag.toLocaleString()} records lie ahead of it.`}>
      {standing.length === 0 && <Empty>It has no position anywhere yet.</Empty>}
      {standing.length > 0 && (
        <Table.ScrollContainer minWidth={560}>
          <Table data-testid="lag">
            <Table.Thead>
              <Table.Tr>
                <Table.Th>Partition</Table.Th>
                <Table.Th ta="right">Lag</Table.Th>
                <Table.Th w="34%">How far</Table.Th>
                <Table.Th ta="right">Position</Table.Th>
                <Table.Th ta="right">End</Table.Th>
                <Table.Th>Member</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {standing.slice(0, 500).map((one) => {
                const kept = Math.max(1, one.end - one.log_start)
                return (
                  <Table.Tr key={`${one.topic}-${one.partition}`}>
                    <Table.Td className="mono">
                      {one.topic}-{one.partition}
                    </Table.Td>
                    <Table.Td ta="right" fw={one.lag ? 600 : undefined}>
                      {one.lag.toLocaleString()}
                    </Table.Td>
                    <Table.Td>
                      <Progress value={one.end === one.log_start ? 100 : (100 * (kept - one.lag)) / kept} color={one.lag ? "brass" : "teal"} aria-label={`${one.lag} of ${kept} ahead`} />
                    </Table.Td>
                    <Table.Td ta="right">{one.position === null ? "none" : one.position.toLocaleString()}</Table.Td>
                    <Table.Td ta="right">{one.end.toLocaleString()}</Table.Td>
                    <Table.Td maw={160}>
                      <Text size="xs" className="mono" truncate>
                        {one.member ?? "nobody"}
                      </Text>
                    </Table.Td>
                  </Table.Tr>
                )
              })}
            </Table.Tbody>
          </Table>
        </Table.ScrollContainer>
      )}
    </Panel>
  )
}

function Members({ group }: { group: Group }) {
  return (
    <Panel title="Members" hint={group.members.length ? undefined : "Nobody is in it now."}>
      <Stack gap="sm" data-testid="members">
        {group.members.map((one) => (
          <div key={one.id}>
            <Text size="sm" className="mono">
              {one.id}
            </Text>
            <Text size="xs" c="dimmed">
              {[one.client_id, one.host.replace(/^\//, ""), one.instance && `static: ${one.instance}`].filter(Boolean).join(" · ")}
            </Text>
            <Row gap={4} mt={2}>
              {one.owns.map((own) => (
                <Badge key={own.topic} size="sm" variant="default" tt="none">
                  {own.topic}: {own.partitions.join(", ")}
                </Badge>
              ))}
            </Row>
          </div>
        ))}
      </Stack>
    </Panel>
  )
}

const goals = [
  { value: "earliest", label: "the oldest record" },
  { value: "latest", label: "the newest" },
  { value: "timestamp", label: "a time" },
  { value: "shift", label: "so many on, or back" },
]

function Reset({ group, path, onMoved }: { group: Group; path: string; onMoved: () => void }) {
  const topics = [...new Set(group.standing.map((one) => one.topic))]
  const [chosen, setChosen] = useState<string | null>(null)
  const topic = chosen ?? topics[0] ?? null
  const [partition, setPartition] = useState("")
  const [to, setTo] = useState("earliest")
  const [time, setTime] = useState("")
  const [by, setBy] = useState<number | string>(-10)
  const reset = useAction(async () => {
    const body = {
      topic,
      to,
      ...(partition ? { partitions: [Number(partition)] } : {}),
      ...(to === "timestamp" ? { timestamp: new Date(time).toISOString() } : {}),
      ...(to === "shift" ? { by: Number(by) } : {}),
    }
    const moved = await api<Moved[]>(`${path}/offsets`, { method: "POST", body })
    onMoved()
    return moved
  })
  const submit = (event: FormEvent) => {
    event.preventDefault()
    void reset.run()
  }
  if (!topic) return null
  const numbers = group.standing.filter((one) => one.topic === topic).map((one) => String(one.partition))
  return (
    <Panel title="Set its offsets" hint={group.members.length ? "Only while it has no members: end them first." : "The group goes on from there when its members come back."}>
      <form onSubmit={submit}>
        <Row gap="xs" align="flex-end">
          <Select label="Topic" data={topics} value={topic} onChange={setChosen} allowDeselect={false} style={{ flex: "1 1 140px" }} />
          <Select label="Partition" data={[{ value: "", label: "all" }, ...numbers]} value={partition} onChange={(one) => setPartition(one ?? "")} allowDeselect={false} w={90} />
          <Select label="To" data={goals} value={to} onChange={(one) => setTo(one ?? "earliest")} allowDeselect={false} style={{ flex: "1 1 160px" }} />
          {to === "timestamp" && <TextInput label="Time" type="datetime-local" step={1} value={time} onChange={(event) => setTime(event.currentTarget.value)} required />}
          {to === "shift" && <NumberInput label="Records" value={by} onChange={setBy} allowDecimal={false} w={120} required />}
          <Button type="submit" loading={reset.busy} disabled={group.members.length > 0}>
            Set
          </Button>
        </Row>
      </form>
      <Told problem={reset.error} />
      {reset.result && !reset.error && (
        <Text size="sm" mt="xs" data-testid="moved" aria-live="polite">
          {reset.result.slice(0, 20).map((one) => `${topic}-${one.partition}: ${one.before ?? "none"} → ${one.after}`).join("; ")}
        </Text>
      )}
    </Panel>
  )
}
