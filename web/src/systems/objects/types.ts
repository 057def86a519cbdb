/** What /api/objects answers. */
export type Bucket = {
  name: string
  owner: string
  region: string
  created_at: string
  versioning: "never" | "enabled" | "suspended"
  lock: boolean
  profile: string | null
}
export type Line = { key: string; size_bytes: number; etag: string; modified_at: string; storage_class: string }
export type Listing = { objects: Line[]; folders: string[]; next: string | null }
export type VersionLine = {
  version: string
  size_bytes: number
  etag: string
  modified_at: string
  marker: boolean
  latest: boolean
  locked: string
  locked_until: string | null
}
export type Part = { number: number; etag: string; size_bytes: number }
export type Disk = {
  id: number
  directory: string
  zone: string
  state: string
  free_bytes: number
  total_bytes: number
  used_bytes: number
  segments: number
}
export type Heal = { waiting: number; healed: number; lost: number; degraded_reads: number; bad_shards: number }
export type Heard = { events: { name: string; key: string }[]; next: number; missed: boolean }
export type Usage = { stripes: number; payload_bytes: number; live_bytes: number; used_bytes: number; free_bytes: number }
export type Verdict = { allowed: boolean; by: string; statement: string }

const units = ["B", "KiB", "MiB", "GiB", "TiB"]

export function size(bytes: number): string {
  let unit = 0
  while (bytes >= 1024 && unit < units.length - 1) {
    bytes /= 1024
    unit += 1
  }
  return `${unit && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes).toLocaleString()} ${units[unit]}`
}

export const when = (at: string) => new Date(at).toLocaleString()

export const bucketPath = (bucket: string) => `/api/objects/buckets/${encodeURIComponent(bucket)}`

export const objectPath = (bucket: string, key: string) => `${bucketPath(bucket)}/objects/${encodeURIComponent(key)}`
