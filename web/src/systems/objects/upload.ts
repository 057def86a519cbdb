/** Uploads with progress, straight to the S3 endpoint by presigned URLs: small files at once, larger ones in parts, some at a
 * time, that a later attempt goes on from. */
import { api, Problem } from "../../api"
import { bucketPath, type Part } from "./types"

const PART_BYTES_MIN = 8 << 20
const PARTS_MAX = 1000
const AT_ONCE = 3
const LINKS_AT_ONCE = 30

type Link = { number: number; url: string }

/** Sends a file; `onSent` hears how many of its bytes have arrived. Raises `Problem`. */
export async function upload(bucket: string, key: string, file: File, signal: AbortSignal, onSent: (bytes: number) => void) {
  const type = file.type || "application/octet-stream"
  if (file.size <= PART_BYTES_MIN) {
    const { url } = await api<{ url: string }>(`${bucketPath(bucket)}/presign`, { method: "POST", body: { key, method: "PUT" } })
    await put(url, file, type, signal, onSent)
    return
  }
  const mark = `objects.upload ${bucket} ${key} ${file.size} ${file.lastModified}`
  const { id, parts } = await begun(bucket, key, type, mark)
  const path = `${bucketPath(bucket)}/uploads/${encodeURIComponent(id)}`
  const query = `?key=${encodeURIComponent(key)}`
  await sendParts(path + "/links" + query, file, parts, signal, onSent)
  const there = await api<{ parts: Part[] }>(path + query)
  await api(path + query, { method: "POST", body: { parts: there.parts.map(({ number, etag }) => ({ number, etag })) } })
  localStorage.removeItem(mark)
}

/** Sends what is missing of a file; what has arrived before counts as sent. */
async function sendParts(links: string, file: File, there: Part[], signal: AbortSignal, onSent: (bytes: number) => void) {
  const partBytes = Math.max(PART_BYTES_MIN, Math.ceil(file.size / PARTS_MAX / (1 << 20)) << 20)
  const piece = (number: number) => file.slice((number - 1) * partBytes, number * partBytes)
  const numbers = Array.from({ length: Math.ceil(file.size / partBytes) }, (_, at) => at + 1)
  const arrived = new Map(there.filter((part) => piece(part.number).size === part.size_bytes).map((part) => [part.number, part.size_bytes]))
  const tell = () => onSent([...arrived.values()].reduce((sum, bytes) => sum + bytes, 0))
  const missing = numbers.filter((number) => !arrived.has(number))
  tell()
  while (missing.length) {
    const ready = await api<Link[]>(links, { method: "POST", body: { numbers: missing.splice(0, LINKS_AT_ONCE) } })
    const work = async () => {
      for (let link = ready.shift(); link; link = ready.shift()) {
        const { number, url } = link
        await put(url, piece(number), "", signal, (bytes) => (arrived.set(number, bytes), tell()))
        arrived.set(number, piece(number).size)
      }
    }
    // Where one fails no other is begun, but those on their way arrive: a later attempt need not send them.
    const stopping = () =>
      work().catch((problem) => {
        ready.length = 0
        throw problem
      })
    const ended = await Promise.allSettled(Array.from({ length: AT_ONCE }, stopping))
    const failure = ended.find((one) => one.status === "rejected")
    if (failure) throw failure.reason
  }
}

/** The upload of this very file that was interrupted, or a new one. */
async function begun(bucket: string, key: string, type: string, mark: string): Promise<{ id: string; parts: Part[] }> {
  const known = localStorage.getItem(mark)
  if (known) {
    try {
      const { parts } = await api<{ parts: Part[] }>(`${bucketPath(bucket)}/uploads/${encodeURIComponent(known)}?key=${encodeURIComponent(key)}`)
      return { id: known, parts }
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 404) throw error
    }
  }
  const made = await api<{ upload: string }>(`${bucketPath(bucket)}/uploads`, { method: "POST", body: { key, content_type: type } })
  localStorage.setItem(mark, made.upload)
  return { id: made.upload, parts: [] }
}

/** One body, with progress, which fetch does not tell. */
function put(url: string, body: Blob, type: string, signal: AbortSignal, onBytes: (bytes: number) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const again = "Drop the file again to go on where it ended."
    const request = new XMLHttpRequest()
    request.open("PUT", url)
    if (type) request.setRequestHeader("content-type", type)
    request.upload.onprogress = (event) => onBytes(event.loaded)
    request.onload = () => (request.status < 300 ? resolve() : reject(refused(request)))
    request.onerror = () => reject(new Problem(0, "unreachable", "The upload was interrupted", `The S3 endpoint does not answer. ${again}`, {}))
    request.onabort = () => reject(new Problem(0, "stopped", "The upload was stopped", again, {}))
    if (signal.aborted) return request.onabort(new ProgressEvent("abort"))
    signal.addEventListener("abort", () => request.abort(), { once: true })
    // A slice has no type of its own, and a blob with one would send it.
    request.send(type ? body : new Blob([body]))
  })
}

/** What S3 says in XML when it refuses. */
function refused(request: XMLHttpRequest): Problem {
  const told = new DOMParser().parseFromString(request.responseText, "application/xml")
  const code = told.querySelector("Code")?.textContent ?? ""
  return new Problem(request.status, code, code || request.statusText, told.querySelector("Message")?.textContent ?? "", {})
}
