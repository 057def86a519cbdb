import { Badge, Button, Group, Progress, Select, Stack, Switch, Table, Text } from "@mantine/core"
import { useState } from "react"
import { api } from "../../api"
import { Panel } from "../../parts/Panel"
import { Empty, Told } from "../../parts/Told"
import { useAction, useApi } from "../../use"
import { line, size } from "./bytes"
import { numbered } from "./Produce"
import { moment } from "./Records"
import type { Compaction, Segment, Topic } from "./types"

const colours: Record<string, string> = { kept: "teal", tombstone: "gray", "not compacted": "blue" }

/** What lies on the disk: partitions, their files, and what compaction would leave of one. */
export function Storage({ topic }: { topic: Topic }) {
  const [partition, setPartition] = useState("0")
  return (
    <Stack>
      <Panel title="Partitions" hint="Readers see what lies below the high watermark; readers of committed records what lies below the last stable offset.">
        <Table.ScrollContainer minWidth={600}>
          <Table data-testid="partitions">
            <Table.Thead>
              <Table.Tr>
                <Table.Th>Partition</Table.Th>
                <Table.Th ta="right">Leader</Table.Th>
                <Table.Th ta="right">Epoch</Table.Th>
                <Table.Th ta="right">Log start</Table.Th>
                <Table.Th ta="right">Last stable</Table.Th>
                <Table.Th ta="right">High watermark</Table.Th>
                <Table.Th ta="right">Size</Table.Th>
                <Table.Th />
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {topic.partitions.slice(0, 200).map((one) => (
                <Table.Tr key={one.partition}>
                  <Table.Td>{one.partition}</Table.Td>
                  <Table.Td ta="right">{one.leader}</Table.Td>
                  <Table.Td ta="right">{one.leader_epoch}</Table.Td>
                  <Table.Td ta="right">{one.log_start.toLocaleString()}</Table.Td>
                  <Table.Td ta="right">{one.last_stable.toLocaleString()}</Table.Td>
                  <Table.Td ta="right">{one.high_watermark.toLocaleString()}</Table.Td>
                  <Table.Td ta="right">{size(one.size_bytes)}</Table.Td>
                  <Table.Td>
                    {one.open_transactions > 0 && <Badge size="xs">{one.open_transactions} open transactions</Badge>}
                    {one.failure && (
                      <Badge size="xs" color="red" tt="none">
                        {one.failure}
                      </Badge>
                    )}
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Table.ScrollContainer>
        {topic.partition_count > 200 && <Empty>The first 200 of {topic.partition_count.toLocaleString()}.</Empty>}
      </Panel>
      <Segments
        topic={topic.name}
        partition={partition}
        choose={<Select size="xs" aria-label="Partition of the segments" data={numbered(topic.partition_count)} value={partition} onChange={(one) => setPartition(one ?? "0")} allowDeselect={false} searchable={topic.partition_count > 20} w={90} />}
      />
      <Preview key={partition} topic={topic.name} partition={partition} />
    </Stack>
  )
}

function Segments({ topic, partition, choose }: { topic: string; partition: string; choose: React.ReactNode }) {
  const { data, error } = useApi<Segment[]>(`/api/log/topics/${topic}/segments?partition=${partition}`, 3000)
  const largest = Math.max(1, ...(data ?? []).map((one) => one.size_bytes))
  return (
    <Panel title="Segments" hint={`Files of partition ${partition}; the newest is written to.`} right={choose}>
      <Told problem={error} />
      {data?.length === 0 && <Empty>Nothing has been written here yet.</Empty>}
      {!!data?.length && (
        <Table.ScrollContainer minWidth={560}>
          <Table data-testid="segments">
            <Table.Thead>
              <Table.Tr>
                <Table.Th>File</Table.Th>
                <Table.Th w="30%">Size</Table.Th>
                <Table.Th>Newest record</Table.Th>
                <Table.Th />
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {data.slice(-200).map((one) => (
                <Table.Tr key={one.base_offset}>
                  <Table.Td className="mono" style={{ whiteSpace: "nowrap" }}>
                    {one.file}
                  </Table.Td>
                  <Table.Td>
                    <Group gap="xs" wrap="nowrap">
                      <Progress value={(100 * one.size_bytes) / largest} style={{ flex: 1 }} aria-label={`${size(one.size_bytes)} of ${size(largest)}`} />
                      <Text size="sm" w={80} ta="right">
                        {size(one.size_bytes)}
                      </Text>
                    </Group>
                  </Table.Td>
                  <Table.Td>{moment(one.max_timestamp_ms)}</Table.Td>
                  <Table.Td>{one.active && <Badge size="xs" variant="light">active</Badge>}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Table.ScrollContainer>
      )}
    </Panel>
  )
}

function Preview({ topic, partition }: { topic: string; partition: string }) {
  const [active, setActive] = useState(true)
  const look = useAction((withActive: boolean) => api<Compaction>(`/api/log/topics/${topic}/compaction?partition=${partition}&active=${withActive}`))
  const found = look.result
  const kept = found?.segments.reduce((sum, one) => sum + one.records_kept, 0) ?? 0
  const all = found?.segments.reduce((sum, one) => sum + one.records, 0) ?? 0
  const bytes = (which: "size_bytes" | "kept_bytes") => size(found?.segments.reduce((sum, one) => sum + one[which], 0) ?? 0)
  return (
    <Panel title="What compaction would keep" hint="Read, not done: the last record of every key, and tombstones until their time is over.">
      <Group gap="sm">
        <Button size="xs" onClick={() => look.run(active)} loading={look.busy}>
          Preview
        </Button>
        <Switch size="xs" label="As if the newest segment were closed" checked={active} onChange={(event) => setActive(event.currentTarget.checked)} />
      </Group>
      <Told problem={look.error} />
      {found && (
        <Stack gap="xs" mt="sm">
          <Text size="sm" data-testid="compaction">
            {kept.toLocaleString()} of {all.toLocaleString()} records stay ({bytes("kept_bytes")} of {bytes("size_bytes")}), for {found.keys.toLocaleString()} keys;{" "}
            {found.tombstones.toLocaleString()} of them tombstones.
            {!found.enabled && " This topic is not compacted: set cleanup.policy for that."}
            {!found.complete && " Only the first 200,000 records were read."}
          </Text>
          <Table.ScrollContainer minWidth={520}>
            <Table>
              <Table.Tbody>
                {found.segments.slice(-50).map((one) => (
                  <Table.Tr key={one.base_offset}>
                    <Table.Td className="mono" style={{ whiteSpace: "nowrap" }}>
                      {one.file}
                    </Table.Td>
                    <Table.Td w="40%">
                      <Progress value={one.records ? (100 * one.records_kept) / one.records : 0} color={one.closed ? "teal" : "blue"} aria-label={`${one.records_kept} of ${one.records} records stay`} />
                    </Table.Td>
                    <Table.Td ta="right">
                      {one.records_kept.toLocaleString()} of {one.records.toLocaleString()}
                    </Table.Td>
                    <Table.Td>{!one.closed && <Text size="xs" c="dimmed">left alone</Text>}</Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          </Table.ScrollContainer>
          <Table.ScrollContainer minWidth={520} mah={360} style={{ overflowY: "auto" }} tabIndex={0} aria-label="Records and what becomes of them">
            <Table data-testid="fates" verticalSpacing={2}>
              <Table.Tbody>
                {found.records.toReversed().map((one) => (
                  <Table.Tr key={one.offset}>
                    <Table.Td className="mono" w={90}>
                      {one.offset}
                    </Table.Td>
                    <Table.Td className="mono">{line({ text: one.key, base64: one.key_base64 }, "auto") ?? "no key"}</Table.Td>
                    <Table.Td>
                      <Badge size="sm" variant="light" color={colours[one.fate] ?? "red"} tt="none">
                        {one.fate}
                        {one.by !== undefined && ` by ${one.by}`}
                      </Badge>
                    </Table.Td>
                    <Table.Td ta="right">{size(one.size_bytes)}</Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          </Table.ScrollContainer>
        </Stack>
      )}
    </Panel>
  )
}
