import { Badge, Button, Switch, Table, Text } from "@mantine/core"
import { useState } from "react"
import { api } from "../../api"
import { Panel } from "../../parts/Panel"
import { Told } from "../../parts/Told"
import { useAction } from "../../use"
import { PagedTable } from "./PagedTable"
import { moment } from "./Records"
import type { Transaction } from "./types"

const ended = ["Empty", "CompleteCommit", "CompleteAbort"]
const columns = [{ title: "Id" }, { title: "State" }, { title: "Partitions" }, { title: "Since" }, { title: "Producer" }, {}]

/** Transactional ids and what is open; an open one holds back every reader of committed records in its partitions. */
export function Transactions() {
  const [open, setOpen] = useState(false)
  const abort = useAction(async (id: string, reload: () => void) => {
    await api(`/api/log/transactions/${encodeURIComponent(id)}/abort`, { method: "POST" })
    reload()
  })
  return (
    <Panel
      title="Transactions"
      hint="All or nothing across partitions and offsets. One that is open ends at its timeout at the latest."
      right={<Switch size="xs" label="Open ones" checked={open} onChange={(event) => setOpen(event.currentTarget.checked)} />}
    >
      <Told problem={abort.error} />
      <PagedTable<Transaction>
        path={`/api/log/transactions?limit=50&open=${open}`}
        everyMs={2000}
        columns={columns}
        keyOf={(one) => one.id}
        empty={open ? "None is open." : "No producer has used a transactional id yet."}
        testId="transactions"
        minWidth={620}
        row={(one, reload) => (
          <>
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
                <Button size="compact-xs" variant="light" color="red" loading={abort.busy} aria-label={`Abort ${one.id}`} onClick={() => confirm(`What ${one.id} has written since it began will never be seen, and its producer is fenced. Abort it?`) && abort.run(one.id, reload)}>
                  Abort
                </Button>
              )}
            </Table.Td>
          </>
        )}
      />
    </Panel>
  )
}
