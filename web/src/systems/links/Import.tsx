import { Button, FileButton, Group, Stack, Table, Text, Textarea } from "@mantine/core"
import { useState } from "react"
import { api } from "../../api"
import { Panel } from "../../parts/Panel"
import { Told } from "../../parts/Told"
import { useAction } from "../../use"

type Imported = { made: number; refused: { line: number; code: string; reason: string }[] }

/** Many links at once, from a CSV file of ours, Shlink's, YOURLS' or Bitly's; and all of them back as one. */
export function Import() {
  const [text, setText] = useState("url,alias,title,tags\n")
  const run = useAction(() => api<Imported>("/api/links/import", { method: "POST", raw: text, headers: { "content-type": "text/csv" } }))
  return (
    <Panel
      title="Import and export"
      hint="A CSV file with a first line that names its columns: ours, or an export of Shlink, YOURLS or Bitly. Codes, dates and counts are kept."
      right={
        <Button variant="default" size="xs" component="a" href="/api/links/export" download="links.csv">
          Export all
        </Button>
      }
    >
      <Stack>
        <Textarea aria-label="Lines" value={text} onChange={(event) => setText(event.currentTarget.value)} autosize minRows={8} maxRows={20} classNames={{ input: "mono" }} spellCheck={false} />
        <Group>
          <FileButton accept=".csv,text/csv" onChange={(file) => file?.text().then(setText)}>
            {(props) => (
              <Button variant="default" {...props}>
                From a file
              </Button>
            )}
          </FileButton>
          <Button onClick={() => run.run()} loading={run.busy}>
            Import
          </Button>
        </Group>
        <Told problem={run.error} />
        {run.result && (
          <Text data-testid="imported">
            {run.result.made.toLocaleString()} made, {run.result.refused.length.toLocaleString()} refused.
          </Text>
        )}
        {!!run.result?.refused.length && (
          <Table>
            <Table.Tbody>
              {run.result.refused.slice(0, 100).map((one) => (
                <Table.Tr key={one.line}>
                  <Table.Td>line {one.line}</Table.Td>
                  <Table.Td className="mono">{one.code}</Table.Td>
                  <Table.Td>{one.reason}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        )}
      </Stack>
    </Panel>
  )
}
