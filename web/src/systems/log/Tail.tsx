import { Button, Group, Select, Text } from "@mantine/core"
import { useDebouncedValue } from "@mantine/hooks"
import { IconPlayerPause, IconPlayerPlay } from "@tabler/icons-react"
import { useEffect, useRef, useState } from "react"
import { api, live, type Problem } from "../../api"
import { Panel } from "../../parts/Panel"
import { Empty, Told } from "../../parts/Told"
import type { Decoding } from "./bytes"
import { numbered } from "./Produce"
import { DecodingControl, Records } from "./Records"
import type { LogRecord, RecordsPage, TailMessage } from "./types"
import { Where } from "./Where"

const KEPT = 200

/** Records as they arrive, newest first. What came faster than this page takes it is counted, never guessed. */
export function Tail({ topic, partitions }: { topic: string; partitions: number }) {
  const [where, setWhere] = useState("")
  const [wanted] = useDebouncedValue(where, 400)
  const [partition, setPartition] = useState("")
  const [decoding, setDecoding] = useState<Decoding>("auto")
  const [records, setRecords] = useState<LogRecord[]>([])
  const [seen, setSeen] = useState(0)
  const [dropped, setDropped] = useState(0)
  const [connected, setConnected] = useState(false)
  const [paused, setPaused] = useState(false)
  const [problem, setProblem] = useState<Problem>()
  const isPaused = useRef(false)
  isPaused.current = paused
  useEffect(() => {
    setRecords([])
    setSeen(0)
    setDropped(0)
    setProblem(undefined)
    const query = new URLSearchParams({ ...(wanted ? { where: wanted } : {}), ...(partition ? { partition } : {}) })
    let stop = () => {}
    let ended = false
    // A WebSocket cannot say why it was refused, so the filter is tried on the newest record first.
    api<RecordsPage>(`/api/log/topics/${topic}/records?limit=1&offset=-1${query.size ? `&${query}` : ""}`).then(
      () => {
        if (ended) return
        stop = live<TailMessage>(
          `/api/log/topics/${topic}/tail?${query}`,
          (message) => {
            if (isPaused.current) return
            setSeen((before) => before + message.records.length)
            setDropped((before) => before + message.dropped)
            if (message.records.length) setRecords((before) => [...message.records.toReversed(), ...before].slice(0, KEPT))
          },
          setConnected,
        )
      },
      (reason) => ended || setProblem(reason as Problem),
    )
    return () => {
      ended = true
      stop()
      setConnected(false)
    }
  }, [topic, wanted, partition])
  return (
    <Panel
      title="Live"
      hint={
        <span data-testid="tail-state" aria-live="polite">
          {problem ? "not watching" : paused ? "paused" : connected ? "watching" : "connecting …"}
          {seen > 0 && `, ${seen.toLocaleString()} since you look`}
          {dropped > 0 && `; ${dropped.toLocaleString()} passed over, too fast to show`}
        </span>
      }
      right={
        <Button size="xs" variant="default" leftSection={paused ? <IconPlayerPlay size={14} /> : <IconPlayerPause size={14} />} onClick={() => setPaused(!paused)}>
          {paused ? "Go on" : "Pause"}
        </Button>
      }
    >
      <Group gap="xs" align="flex-end" mb="xs">
        <Where value={where} onChange={setWhere} />
        <Select label="Partition" data={[{ value: "", label: "all" }, ...numbered(partitions)]} value={partition} onChange={(one) => setPartition(one ?? "")} allowDeselect={false} searchable={partitions > 20} w={100} />
        <DecodingControl value={decoding} onChange={setDecoding} />
      </Group>
      <Told problem={problem} />
      {records.length === 0 ? <Empty>Whatever is produced from now on appears here.</Empty> : <Records records={records} decoding={decoding} testId="tail" />}
      {records.length === KEPT && (
        <Text size="xs" c="dimmed">
          The newest {KEPT}.
        </Text>
      )}
    </Panel>
  )
}
