import { Button, Group, NumberInput, SegmentedControl, Select, Text, TextInput } from "@mantine/core"
import { type FormEvent, useEffect, useState } from "react"
import { api } from "../../api"
import { Panel } from "../../parts/Panel"
import { Empty, Told } from "../../parts/Told"
import { useAction } from "../../use"
import type { Decoding } from "./bytes"
import { numbered } from "./Produce"
import { DecodingControl, Records } from "./Records"
import type { LogRecord, RecordsPage } from "./types"
import { Where } from "./Where"

type From = "newest" | "oldest" | "offset" | "time"
type Found = { records: LogRecord[]; scanned: number; next: string | null; query: string; newest: boolean }

const LIMIT = 50
const LIMIT_MAX = 500
const places = [
  { value: "newest", label: "Newest" },
  { value: "oldest", label: "Oldest" },
  { value: "offset", label: "Offset" },
  { value: "time", label: "Time" },
]

/** Records from a place on: by offset or time, with a filter that the server answers a bounded step at a time. */
export function Browse({ topic, partitions }: { topic: string; partitions: number }) {
  const [from, setFrom] = useState<From>("newest")
  const [partition, setPartition] = useState("")
  const [offset, setOffset] = useState<number | string>(0)
  const [time, setTime] = useState("")
  const [where, setWhere] = useState("")
  const [decoding, setDecoding] = useState<Decoding>("auto")
  const [found, setFound] = useState<Found>()
  const newest = from === "newest" && !where
  const query = () => {
    const asked = new URLSearchParams({ limit: String(LIMIT) })
    if (partition) asked.set("partition", partition)
    if (where) asked.set("where", where)
    if (newest) {
      // Some of each partition, which a page then has room for.
      const share = partition ? LIMIT : Math.max(1, Math.ceil(LIMIT / partitions))
      asked.set("offset", String(-share))
      asked.set("limit", String(Math.min(LIMIT_MAX, share * (partition ? 1 : partitions))))
    }
    if (from === "offset") asked.set("offset", String(offset || 0))
    if (from === "time" && time) asked.set("timestamp", new Date(time).toISOString())
    return asked.toString()
  }
  const load = useAction(async (asked: string, cursor: string | null) => {
    const page = await api<RecordsPage>(`/api/log/topics/${topic}/records?${asked}${cursor ? `&cursor=${cursor}` : ""}`)
    setFound((before) => {
      const kept = cursor && before ? before : { records: [], scanned: 0, newest }
      return { records: [...kept.records, ...page.items], scanned: kept.scanned + page.scanned, next: page.next, query: asked, newest: cursor ? kept.newest : newest }
    })
  })
  useEffect(() => void load.run(query(), null), [topic])
  const submit = (event: FormEvent) => {
    event.preventDefault()
    void load.run(query(), null)
  }
  return (
    <Panel title="Browse" hint="Nothing is consumed: no group moves.">
      <form onSubmit={submit} style={{ marginBottom: "var(--mantine-spacing-sm)" }}>
        <Group gap="xs" align="flex-end">
          <Select label="Partition" data={[{ value: "", label: "all" }, ...numbered(partitions)]} value={partition} onChange={(one) => setPartition(one ?? "")} allowDeselect={false} searchable={partitions > 20} w={100} />
          <div>
            <Text size="sm" fw={500} mb={2}>
              From
            </Text>
            <SegmentedControl data={places} value={from} onChange={(one) => setFrom(one as From)} aria-label="From" />
          </div>
          {from === "offset" && <NumberInput label="First offset" value={offset} onChange={setOffset} allowDecimal={false} w={140} />}
          {from === "time" && <TextInput label="First time" type="datetime-local" step={1} value={time} onChange={(event) => setTime(event.currentTarget.value)} required />}
          <Where value={where} onChange={setWhere} />
          <DecodingControl value={decoding} onChange={setDecoding} />
          <Button type="submit" loading={load.busy}>
            Look
          </Button>
        </Group>
        {from === "newest" && where && (
          <Text size="xs" c="dimmed" mt={4}>
            With a filter the search begins at the oldest record.
          </Text>
        )}
      </form>
      <Told problem={load.error} />
      {found && !load.error && (
        <>
          {found.records.length === 0 ? (
            <Empty>{found.next ? `None of the first ${found.scanned.toLocaleString()} records fits.` : found.scanned ? `None of ${found.scanned.toLocaleString()} records fits.` : "There are no records here."}</Empty>
          ) : (
            <Records records={found.newest ? found.records.toSorted((a, b) => b.timestamp_ms - a.timestamp_ms || b.offset - a.offset) : found.records} decoding={decoding} testId="browsed" />
          )}
          <Group justify="space-between" mt="xs">
            <Text size="xs" c="dimmed" data-testid="scanned">
              {found.records.length.toLocaleString()} of {found.scanned.toLocaleString()} records looked at
            </Text>
            {found.next && (
              <Button size="xs" variant="default" loading={load.busy} onClick={() => load.run(found.query, found.next)}>
                {found.records.length ? "More" : "Look further"}
              </Button>
            )}
          </Group>
        </>
      )}
    </Panel>
  )
}
