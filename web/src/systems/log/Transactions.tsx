import { Badge, Button, Group, Switch, Table, Text } from "@mantine/core"
import { useState } from "react"
import { api } from "../../api"
import { Panel } from "../../parts/Panel"
import { Empty, Told } from "../../parts/Told"
import { useAction, useApi } from "../../use"
import { moment } from "./Records"
import type { Page, Transaction } from "./types"

const ended = ["Empty", "CompleteCommit", "CompleteAbort"]

/** Transactional ids and what is open; an open one holds back every reader of committed records in its partitions. */
export function Transactions() {
  const [open, setOpen] = useState(false)
  const [cursors, setCursors] = useState<string[]>([])
  const cursor = cursors.at(-1)
  const { data, error, reload } = useApi<Page<Transaction>>(`/api/log/transactions?limit=50&open=${open}${cursor ? `&cursor=${cursor}` : ""}`, 2000)
  const abort = useAction(async (id: string) => {
    await api(`/api/log/transactions/${encodeURIComponent(id)}/abort`, { method: "POST" })
    reload()
  })
  return (
    <Panel
      title="Transactions"
      hint="All or nothing across partitions and offsets. One that is open ends at its timeout at the latest."
      right={<Switch size="xs" label="Open ones" checked={open} onChange={(event) => (setOpen(event.currentTarget.checked), setCursors([]))} />}
    >
      <Told problem={error ?? abort.error} />
      {data?.items.length === 0 && <Empty>{open ? "None is open." : "No producer has used a transactional id yet."}</Empty>}
      {!!data?.items.length && (
        <Table.ScrollContainer minWidth={620}>
          <Table data-testid="transactions" verticalSpacing="xs">
            <Table.Thead>
              <Table.Tr>
                <Table.Th>Id</Table.Th>
                <Table.Th>State</Table.Th>
                <Table.Th>Partitions</Table.Th>
                <Table.Th>Since</Table.Th>
                <Table.Th>Producer</Table.Th>
                <Table.Th />
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {data.items.map((one) => (
                <Table.Tr key={one.id}>
                  <Table.Td fw={600} style={{ overflowWrap: "anywhere" }}>
                    {one.id}
                  </Table.Td>
                  <Table.Td>
                    <Badge size="sm" variant="light" color={one.state === "Ongoing" ? "yellow" : ended.includes(one.state) ? "gray" : "blue"} tt="none">
                      {one.state}
                    </Badge>
                  </Table.Td>
                  <Table.Td className="mono">{one.partitions.slice(0, 8).map((slot) => `${slot.topic}-${slot.partition}`).join(", ")}</Table.Td>
                  <Table.Td>
                    {moment(one.started_at_ms >= 0 ? one.started_at_ms : one.updated_at_ms)}
                    <Text size="xs" c="dimmed">
                      timeout {(one.timeout_ms / 1000).toLocaleString()} s
                    </Text>
                  </Table.Td>
                  <Table.Td>
                    <Text size="xs" className="mono">
                      {one.producer_id}
                    </Text>
                    <Text size="xs" c="dimmed">
                      epoch {one.epoch}
                    </Text>
                  </Table.Td>
                  <Table.Td ta="right">
                    {one.state === "Ongoing" && (
                      <Button size="compact-xs" variant="light" color="red" loading={abort.busy} aria-label={`Abort ${one.id}`} onClick={() => confirm(`What ${one.id} has written since it began will never be seen, and its producer is fenced. Abort it?`) && abort.run(one.id)}>
                        Abort
                      </Button>
                    )}
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Table.ScrollContainer>
      )}
      <Group justify="flex-end" gap="xs" mt="xs">
        {cursors.length > 0 && (
          <Button size="xs" variant="default" onClick={() => setCursors((before) => before.slice(0, -1))}>
            Back
          </Button>
        )}
        {data?.next && (
          <Button size="xs" variant="default" onClick={() => setCursors((before) => [...before, data.next!])}>
            More
          </Button>
        )}
      </Group>
    </Panel>
  )
}
