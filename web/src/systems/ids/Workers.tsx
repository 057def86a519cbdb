import { Alert, Badge, Group, Table, Text } from "@mantine/core"
import { Panel } from "../../parts/Panel"
import { Told } from "../../parts/Told"
import { useApi } from "../../use"

type Worker = { worker: number; holder: string | null; fence: number; reserved_at: string | null; age_ms: number; free: boolean; ours: boolean }
type View = {
  workers: Worker[]; worker_max: number; ours: number | null; minted: string; reserved_ms_left: number; ahead_ms: number; unready: string | null
}

/** Who holds which worker id, live. */
export function Workers() {
  const { data, error } = useApi<View>("/api/ids/workers", 1000)
  return (
    <Panel title="Worker ids" hint="Each process owns a range of milliseconds on its worker id, and reserves the next one every second.">
      <Told problem={error} />
      {data?.unready && (
        <Alert color="red" title="This node cannot mint">
          {data.unready}
        </Alert>
      )}
      {data && (
        <>
          <Group gap="lg" mb="sm">
            <Text size="sm">{Number(data.minted).toLocaleString()} minted by this process</Text>
            <Text size="sm">reserved for {(data.reserved_ms_left / 1000).toFixed(1)} s more</Text>
            {data.ahead_ms > 0 && <Text size="sm">{data.ahead_ms} ms ahead of the clock</Text>}
          </Group>
          <Table.ScrollContainer minWidth={520}>
            <Table data-testid="workers">
              <Table.Thead>
                <Table.Tr>
                  <Table.Th>Worker</Table.Th>
                  <Table.Th>Holder</Table.Th>
                  <Table.Th>Range ends</Table.Th>
                  <Table.Th>Renewed</Table.Th>
                  <Table.Th />
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {data.workers.map((one) => (
                  <Table.Tr key={one.worker}>
                    <Table.Td>{one.worker}</Table.Td>
                    <Table.Td className="mono">{one.holder ?? "released"}</Table.Td>
                    <Table.Td>{one.reserved_at ? new Date(one.reserved_at).toLocaleTimeString() : ""}</Table.Td>
                    <Table.Td>{(one.age_ms / 1000).toFixed(1)} s ago</Table.Td>
                    <Table.Td>
                      {one.ours ? <Badge variant="light">this process</Badge> : one.free ? <Badge variant="light" color="gray">free</Badge> : null}
                    </Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          </Table.ScrollContainer>
          <Text size="xs" c="dimmed">
            {data.workers.length} of {(data.worker_max + 1).toLocaleString()} worker ids have ever been used.
          </Text>
        </>
      )}
    </Panel>
  )
}
