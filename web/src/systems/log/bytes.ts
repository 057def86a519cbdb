/** Keys and values as a person reads them: the API gives text where the bytes are UTF-8 and base64 where they are not. */

export type Decoding = "auto" | "json" | "text" | "hex"
export const decodings: { value: Decoding; label: string }[] = [
  { value: "auto", label: "Auto" },
  { value: "json", label: "JSON" },
  { value: "text", label: "UTF-8" },
  { value: "hex", label: "Hex" },
]

type Given = { text: string | null; base64?: string }

function bytesOf({ text, base64 }: Given): Uint8Array {
  if (base64 === undefined) return new TextEncoder().encode(text ?? "")
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))
}

/** One line for a table; null where there are no bytes at all. */
export function line(given: Given, decoding: Decoding): string | null {
  if (given.text === null && given.base64 === undefined) return null
  const binary = given.base64 !== undefined
  if (decoding === "hex" || (decoding === "auto" && binary)) return hex(bytesOf(given), 48)
  const text = given.text ?? new TextDecoder().decode(bytesOf(given))
  if (decoding === "json" && pretty(text) === undefined) return `not JSON: ${text.slice(0, 200)}`
  return text.length > 400 ? `${text.slice(0, 400)}…` : text
}

/** All of it, JSON indented, hex in rows of sixteen with the letters beside. */
export function whole(given: Given, decoding: Decoding): string | null {
  if (given.text === null && given.base64 === undefined) return null
  const binary = given.base64 !== undefined
  if (decoding === "hex" || (decoding === "auto" && binary)) return dump(bytesOf(given))
  const text = given.text ?? new TextDecoder().decode(bytesOf(given))
  if (decoding === "text") return text
  return pretty(text) ?? (decoding === "json" ? `not JSON: ${text}` : text)
}

function pretty(text: string): string | undefined {
  try {
    const value = JSON.parse(text)
    // A parsed number may have lost digits that the text has.
    return typeof value === "object" && value !== null ? JSON.stringify(value, null, 2) : text
  } catch {
    return undefined
  }
}

function hex(bytes: Uint8Array, most: number): string {
  const shown = Array.from(bytes.subarray(0, most), (byte) => byte.toString(16).padStart(2, "0")).join(" ")
  return bytes.length > most ? `${shown} …` : shown
}

const DUMPED_MAX = 4096

function dump(bytes: Uint8Array): string {
  const rows: string[] = []
  for (let at = 0; at < Math.min(bytes.length, DUMPED_MAX); at += 16) {
    const row = bytes.subarray(at, at + 16)
    const letters = Array.from(row, (byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".")).join("")
    rows.push(`${at.toString(16).padStart(8, "0")}  ${hex(row, 16).padEnd(47)}  ${letters}`)
  }
  if (bytes.length > DUMPED_MAX) rows.push(`… ${(bytes.length - DUMPED_MAX).toLocaleString()} bytes more`)
  return rows.join("\n")
}

export function size(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"]
  let at = 0
  while (bytes >= 1024 && at < units.length - 1) (bytes /= 1024), (at += 1)
  return `${at ? bytes.toFixed(1) : bytes} ${units[at]}`
}
