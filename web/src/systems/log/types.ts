export type Page<T> = { items: T[]; next: string | null }

export type TopicRow = { name: string; internal: boolean; partitions: number; records: number; size_bytes: number; cleanup_policy: string }
export type Partition = {
  partition: number
  leader: number
  leader_epoch: number
  log_start: number
  high_watermark: number
  last_stable: number
  size_bytes: number
  segments: number
  open_transactions: number
  failure: string | null
}
export type Setting = { name: string; value: string; given: boolean; kind: string; help: string }
export type Topic = {
  name: string
  id: string
  internal: boolean
  partition_count: number
  records: number
  size_bytes: number
  partitions: Partition[]
  settings: Setting[]
}

export type Header = { name: string; value: string | null; value_base64?: string }
export type LogRecord = {
  partition: number
  offset: number
  timestamp_ms: number
  key: string | null
  key_base64?: string
  value: string | null
  value_base64?: string
  cut_bytes?: number
  headers: Header[]
}
export type RecordsPage = { items: LogRecord[]; scanned: number; next: string | null }
export type TailMessage = { records: LogRecord[]; dropped: number; next: Record<string, number> }

export type Segment = { file: string; base_offset: number; size_bytes: number; max_timestamp_ms: number; active: boolean }
export type Fate = { offset: number; key: string | null; key_base64?: string; fate: string; size_bytes: number; by?: number }
export type SegmentFate = { file: string; base_offset: number; closed: boolean; records: number; records_kept: number; size_bytes: number; kept_bytes: number }
export type Compaction = { enabled: boolean; complete: boolean; keys: number; tombstones: number; segments: SegmentFate[]; records: Fate[] }

export type GroupRow = { name: string; kind: string; state: string; members: number; topics: string[]; lag: number }
export type Owned = { topic: string; partitions: number[] }
export type Member = { id: string; instance: string | null; client_id: string; host: string; owns: Owned[] }
export type Standing = { topic: string; partition: number; position: number | null; log_start: number; end: number; lag: number; member: string | null }
export type Group = { name: string; kind: string; state: string; epoch: number; assignor: string; members: Member[]; standing: Standing[]; lag: number }
export type Moved = { partition: number; before: number | null; after: number }

export type Transaction = {
  id: string
  state: string
  producer_id: string
  epoch: number
  timeout_ms: number
  started_at_ms: number
  updated_at_ms: number
  partitions: { topic: string; partition: number }[]
}
export type Cluster = {
  cluster_id: string
  brokers: { id: number; controller: boolean }[]
  topics: number
  partitions: number
  size_bytes: number
  flush_policy: string
  failed_partitions: string[]
}
