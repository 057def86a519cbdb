/** Uploads with progress: small files at once, larger ones in parts that a later attempt goes on from. */
import { api, Problem } from "../../api"
import { bucketPath, objectPath, type Part } from "./types"

const PART_BYTES = 8 << 20

export type Sent = { bytes: number }

export async function upload(bucket: string, key: string, file: File, signal: AbortSignal, onSent: (sent: Sent) => void) {
  const type = file.type || "application/octet-stream"
  if (file.size <= PART_BYTES) {
    await put(objectPath(bucket, key), file, type, signal, (bytes) => onSent({ bytes }))
    return
  }
  const mark = `objects.upload ${bucket} ${key} ${file.size} ${file.lastModified}`
  const { id, parts } = await begun(bucket, key, type, mark)
  const query = `?key=${encodeURIComponent(key)}`
  let done = 0
  for (let number = 1; (number - 1) * PART_BYTES < file.size; number += 1) {
    const piece = file.slice((number - 1) * PART_BYTES, number * PART_BYTES)
    if (!parts.some((part) => part.number === number && part.size_bytes === piece.size)) {
      const before = done
      const text = await put(`${bucketPath(bucket)}/uploads/${id}/${number}${query}`, piece, type, signal, (bytes) => onSent({ bytes: before + bytes }))
      parts.push(JSON.parse(text) as Part)
    }
    done += piece.size
    onSent({ bytes: done })
  }
  const wanted = parts.toSorted((a, b) => a.number - b.number).map(({ number, etag }) => ({ number, etag }))
  await api(`${bucketPath(bucket)}/uploads/${id}${query}`, { method: "POST", body: { parts: wanted } })
  localStorage.removeItem(mark)
}

/** The upload of this very file that was interrupted, or a new one. */
async function begun(bucket: string, key: string, type: string, mark: string): Promise<{ id: string; parts: Part[] }> {
  const known = localStorage.getItem(mark)
  if (known) {
    try {
      const { parts } = await api<{ parts: Part[] }>(`${bucketPath(bucket)}/uploads/${known}?key=${encodeURIComponent(key)}`)
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
function put(path: string, body: Blob, type: string, signal: AbortSignal, onBytes: (bytes: number) => void): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest()
    request.open("PUT", path)
    request.setRequestHeader("content-type", type)
    request.upload.onprogress = (event) => onBytes(event.loaded)
    request.onload = () => {
      if (request.status < 300) return resolve(request.responseText)
      const told = parsed(request.responseText)
      reject(new Problem(request.status, told.type ?? "", told.title ?? request.statusText, told.detail ?? "", told))
    }
    request.onerror = () => reject(new Problem(0, "unreachable", "The upload was interrupted", "Drop the file again to go on where it ended.", {}))
    request.onabort = () => reject(new Problem(0, "stopped", "The upload was stopped", "Drop the file again to go on where it ended.", {}))
    signal.addEventListener("abort", () => request.abort(), { once: true })
    request.send(body)
  })
}

function parsed(text: string): Record<string, string> {
  try {
    return JSON.parse(text) as Record<string, string>
  } catch {
    return {}
  }
}
