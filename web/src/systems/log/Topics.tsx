import { Anchor, Badge, Button, Group, NumberInput, Select, Switch, Table, Text, TextInput } from "@mantine/core"
import { useDebouncedValue } from "@mantine/hooks"
import { type FormEvent, useState } from "react"
import { api } from "../../api"
import { Panel } from "../../parts/Panel"
import { Told } from "../../parts/Told"
import { useAction, useApi } from "../../use"
import { size } from "./bytes"
import { PagedTable } from "./PagedTable"
import type { Cluster, TopicRow } from "./types"

const policies = [
  { value: "delete", label: "delete old records" },
  { value: "compact", label: "keep the last of each key" },
  { value: "compact,delete", label: "both" },
]
const keeps = [
  { value: "", label: "7 days" },
  { value: "3600000", label: "an hour" },
  { value: "86400000", label: "a day" },
  { value: "2592000000", label: "30 days" },
  { value: "-1", label: "for ever" },
]

const columns = [{ title: "Name" }, { title: "Partitions", right: true }, { title: "Records", right: true }, { title: "Size", right: true }, { title: "Policy" }]

export function Topics({ open }: { open: (name: string) => void }) {
  const [query, setQuery] = useState("")
  const [wanted] = useDebouncedValue(query, 250)
  const [internal, setInternal] = useState(false)
  return (
    <>
      <Create onMade={open} />
      <Panel
        title="Topics"
        hint={<Node />}
        right={<TextInput size="xs" type="search" aria-label="Find topics" placeholder="find" value={query} onChange={(event) => setQuery(event.currentTarget.value)} />}
      >
        <PagedTable<TopicRow>
          path={`/api/log/topics?limit=50&q=${encodeURIComponent(wanted)}&internal=${internal}`}
          everyMs={3000}
          columns={columns}
          keyOf={(one) => one.name}
          empty={wanted ? "No topic has that in its name." : "There are none yet. Create the first one above."}
          testId="topics"
          minWidth={480}
          footer={<Switch size="xs" label="The log's own topics too" checked={internal} onChange={(event) => setInternal(event.currentTarget.checked)} />}
          row={(one) => (
            <>
              <Table.Td>
                <Anchor component="button" type="button" onClick={() => open(one.name)} fw={600} ta="left" style={{ overflowWrap: "anywhere" }}>
                  {one.name}
                </Anchor>{" "}
                {one.internal && (
                  <Badge size="xs" variant="default">
                    internal
                  </Badge>
                )}
              </Table.Td>
              <Table.Td ta="right">{one.partitions.toLocaleString()}</Table.Td>
              <Table.Td ta="right">{one.records.toLocaleString()}</Table.Td>
              <Table.Td ta="right">{size(one.size_bytes)}</Table.Td>
              <Table.Td>{one.cleanup_policy}</Table.Td>
            </>
          )}
        />
      </Panel>
    </>
  )
}

function Node() {
  const { data } = useApi<Cluster>("/api/log/cluster", 5000)
  if (!data) return null
  return (
    <Text span size="sm" data-testid="cluster">
      Node {data.brokers.map((one) => one.id).join(", ")} holds {data.partitions.toLocaleString()} partitions, {size(data.size_bytes)};{" "}
      {data.flush_policy === "commit" ? "acknowledged means synced to the disk." : "acknowledged means in the page cache."}
      {data.failed_partitions.length > 0 && (
        <Text span c="red">
          {" "}
          Not writable: {data.failed_partitions.join(", ")}.
        </Text>
      )}
    </Text>
  )
}

function Create({ onMade }: { onMade: (name: string) => void }) {
  const [name, setName] = useState("")
  const [partitions, setPartitions] = useState<number | string>(1)
  const [policy, setPolicy] = useState("delete")
  const [keep, setKeep] = useState("")
  const create = useAction(async () => {
    const config = { ...(policy === "delete" ? {} : { "cleanup.policy": policy }), ...(keep ? { "retention.ms": keep } : {}) }
    await api("/api/log/topics", { method: "POST", body: { name, partitions: Number(partitions), config } })
    onMade(name)
  })
  const submit = (event: FormEvent) => {
    event.preventDefault()
    void create.run()
  }
  return (
    <Panel title="Create a topic" hint="Its records are kept in order by partition; each key has its own.">
      <form onSubmit={submit}>
        <Group align="flex-end" gap="xs">
          <TextInput label="Name" value={name} onChange={(event) => setName(event.currentTarget.value)} classNames={{ input: "mono" }} style={{ flex: "2 1 180px" }} placeholder="orders" required />
          <NumberInput label="Partitions" value={partitions} onChange={setPartitions} min={1} max={100_000} w={110} required />
          <Select label="What becomes of old records" data={policies} value={policy} onChange={(value) => setPolicy(value ?? "delete")} allowDeselect={false} style={{ flex: "1 1 190px" }} />
          {policy !== "compact" && <Select label="Kept for" data={keeps} value={keep} onChange={(value) => setKeep(value ?? "")} allowDeselect={false} w={120} />}
          <Button type="submit" loading={create.busy}>
            Create
          </Button>
        </Group>
      </form>
      <Told problem={create.error} />
    </Panel>
  )
}
