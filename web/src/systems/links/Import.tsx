import { Button, FileButton, Group, Progress, Stack, Table, Text, Textarea } from "@mantine/core"
import { useState } from "react"
import { api } from "../../api"
import { Panel } from "../../parts/Panel"
import { Told } from "../../parts/Told"
import { useAction } from "../../use"
import type { Link } from "./types"

type Result = { link?: Link; problem?: { title: string; detail: string } }
const columns = ["url", "alias", "title", "tags"]
const atOnce = 200

/** Many links at once, from lines of comma-separated values; each line has its own result. */
export function Import() {
  const [text, setText] = useState("url,alias,title,tags\n")
  const [done, setDone] = useState(0)
  const rows = parse(text)
  const run = useAction(async () => {
    const results: Result[] = []
    for (let start = 0; start < rows.length; start += atOnce) {
      const links = rows.slice(start, start + atOnce)
      results.push(...(await api<{ results: Result[] }>("/api/links/bulk", { method: "POST", body: { links } })).results)
      setDone(results.length)
    }
    return results
  })
  const failed = run.result?.map((one, n) => ({ ...one, n })).filter((one) => one.problem) ?? []
  return (
    <Panel title="Import" hint="A first line that names the columns: url, and any of alias, title, tags (several with spaces between).">
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
          <Button onClick={() => run.run()} loading={run.busy} disabled={rows.length === 0}>
            Import {rows.length.toLocaleString()} links
          </Button>
        </Group>
        {run.busy && <Progress value={(100 * done) / rows.length} aria-label="Imported" />}
        <Told problem={run.error} />
        {run.result && (
          <Text data-testid="imported">
            {(run.result.length - failed.length).toLocaleString()} made, {failed.length.toLocaleString()} refused.
          </Text>
        )}
        {failed.length > 0 && (
          <Table>
            <Table.Tbody>
              {failed.slice(0, 100).map((one) => (
                <Table.Tr key={one.n}>
                  <Table.Td>line {one.n + 2}</Table.Td>
                  <Table.Td className="mono">{rows[one.n]?.url}</Table.Td>
                  <Table.Td>{one.problem?.detail || one.problem?.title}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        )}
      </Stack>
    </Panel>
  )
}

type Row = { url: string; alias?: string; title?: string; tags?: string[] }

/** RFC 4180: fields may be quoted, quotes in them doubled. */
function parse(text: string): Row[] {
  const records: string[][] = []
  let record: string[] = []
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^,"\r\n]*))(,|\r?\n|$)/g)) {
    record.push(quoted !== undefined ? quoted.replaceAll('""', '"') : (plain ?? ""))
    if (end === ",") continue
    if (record.some((field) => field.trim())) records.push(record)
    record = []
    if (end === "") break
  }
  const names = records.shift()?.map((name) => name.trim().toLowerCase()) ?? []
  return records
    .map((fields) => Object.fromEntries(names.map((name, n) => [name, fields[n]?.trim() ?? ""]).filter(([name, value]) => value && columns.includes(name!))))
    .filter((row) => row.url)
    .map((row) => ({ ...row, ...(row.tags ? { tags: row.tags.split(/\s+/) } : {}) }) as Row)
}
