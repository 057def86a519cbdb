import { BarChart } from "@mantine/charts"
import { Button, FileButton, Group, Select, Stack, Table, Text, Textarea, TextInput } from "@mantine/core"
import { useState } from "react"
import { api } from "../../api"
import { Panel } from "../../parts/Panel"
import { Told } from "../../parts/Told"
import { useAction } from "../../use"

type Replayed = {
  lines: number; unread: number; admitted: number; refused: number; keys_refused: number
  keys: { key: string; admitted: number; refused: number }[]
  minutes: { at: string; admitted: number; refused: number }[]
}

/** What a policy would have denied of recorded traffic, before it is switched on. */
export function Replay() {
  const [log, setLog] = useState("")
  const [policy, setPolicy] = useState("10/minute")
  const [by, setBy] = useState("address")
  const run = useAction(() => api<Replayed>("/api/limiter/replay", { method: "POST", body: { log, policy, keys: [by] } }))
  const told = run.result
  return (
    <Panel title="Replay an access log" hint="In the format of Apache or nginx, up to a megabyte. Nothing is charged.">
      <Stack gap="sm">
        <Textarea aria-label="Access log" placeholder='192.0.2.1 - - [28/Nov/2026:20:24:00 +0000] "GET / HTTP/1.1" 200 512' value={log} onChange={(event) => setLog(event.currentTarget.value)} autosize minRows={3} maxRows={10} classNames={{ input: "mono" }} spellCheck={false} />
        <Group align="flex-end" gap="xs">
          <FileButton accept=".log,.txt,text/plain" onChange={(file) => file?.text().then(setLog)}>
            {(props) => (
              <Button variant="default" {...props}>
                From a file
              </Button>
            )}
          </FileButton>
          <TextInput label="Policy" value={policy} onChange={(event) => setPolicy(event.currentTarget.value)} classNames={{ input: "mono" }} />
          <Select label="Key" data={["address", "user", "path", "route", "everyone"]} value={by} onChange={(value) => setBy(value ?? "address")} allowDeselect={false} w={130} />
          <Button onClick={() => run.run()} loading={run.busy} disabled={!log}>
            Replay
          </Button>
        </Group>
        <Told problem={run.error} />
        {told && (
          <>
            <Text size="sm" data-testid="replayed">
              Of {told.lines.toLocaleString()} requests {told.admitted.toLocaleString()} would have passed and {told.refused.toLocaleString()} been denied, of{" "}
              {told.keys_refused.toLocaleString()} keys{told.unread > 0 && `; ${told.unread.toLocaleString()} lines are in no format that is known`}.
            </Text>
            {told.minutes.length > 0 && (
              <BarChart
                h={200}
                type="stacked"
                data={told.minutes.map((one) => ({ ...one, at: new Date(one.at).toLocaleTimeString() }))}
                dataKey="at"
                withLegend
                series={[
                  { name: "admitted", color: "teal.6" },
                  { name: "refused", color: "red.6" },
                ]}
              />
            )}
            <Table>
              <Table.Tbody>
                {told.keys.slice(0, 20).map((one) => (
                  <Table.Tr key={one.key}>
                    <Table.Td className="mono">{one.key}</Table.Td>
                    <Table.Td ta="right">{one.admitted.toLocaleString()} passed</Table.Td>
                    <Table.Td ta="right">{one.refused.toLocaleString()} denied</Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          </>
        )}
      </Stack>
    </Panel>
  )
}
