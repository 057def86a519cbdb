/** PrivateBin's envelope, version 2: AES-256-GCM, the key by PBKDF2-HMAC-SHA256, the text deflated. The key never leaves this page. */

export type Adata = [[string, string, number, number, number, "aes", "gcm", "zlib" | "none"], string, 0 | 1, 0 | 1]
export type Envelope = { adata: Adata; ct: string; verifier: string }

const iterations = 100_000
const letters = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
const text = new TextEncoder()

export const base64 = (bytes: Uint8Array) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""))
const fromBase64 = (value: string) => Uint8Array.from(atob(value), (letter) => letter.charCodeAt(0))
const hex = (bytes: ArrayBuffer) => Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("")

export function base58(bytes: Uint8Array): string {
  let number = bytes.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n)
  let out = ""
  for (; number > 0n; number /= 58n) out = letters[Number(number % 58n)] + out
  for (const byte of bytes) {
    if (byte) break
    out = "1" + out
  }
  return out
}

export function fromBase58(value: string): Uint8Array<ArrayBuffer> {
  let number = 0n
  for (const letter of value) {
    const digit = letters.indexOf(letter)
    if (digit < 0) throw new Error("The key in this address is damaged")
    number = number * 58n + BigInt(digit)
  }
  const bytes: number[] = []
  for (; number > 0n; number >>= 8n) bytes.unshift(Number(number & 255n))
  while (bytes.length < 32) bytes.unshift(0)
  return Uint8Array.from(bytes)
}

async function cipher(key: Uint8Array<ArrayBuffer>, password: string, adata: Adata) {
  const [iv, salt, rounds, bits, tag] = adata[0]
  const secret = new Uint8Array([...key, ...text.encode(password)])
  const base = await crypto.subtle.importKey("raw", secret, "PBKDF2", false, ["deriveKey"])
  const derived = await crypto.subtle.deriveKey(
    { name: "PBKDF2", salt: fromBase64(salt), iterations: rounds, hash: "SHA-256" },
    base,
    { name: "AES-GCM", length: bits },
    false,
    ["encrypt", "decrypt"],
  )
  return {
    key: derived,
    parameters: { name: "AES-GCM", iv: fromBase64(iv), additionalData: text.encode(JSON.stringify(adata)), tagLength: tag },
  }
}

async function pipe(bytes: Uint8Array<ArrayBuffer>, through: CompressionStream | DecompressionStream) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(through)).arrayBuffer())
}

/** What the server keeps to recognise who knows the key, without knowing it: HKDF-SHA256 of the key. */
async function verifierOf(key: Uint8Array<ArrayBuffer>): Promise<ArrayBuffer> {
  const base = await crypto.subtle.importKey("raw", key, "HKDF", false, ["deriveBits"])
  return crypto.subtle.deriveBits(
    { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info: text.encode("mainspring paste verifier 1") },
    base,
    256,
  )
}

/** Seals a text; gives the envelope, and the key as it stands in the fragment. */
export async function seal(paste: string, password: string, format: string, burn: boolean): Promise<{ envelope: Envelope; fragment: string }> {
  const random = (size: number) => crypto.getRandomValues(new Uint8Array(size))
  const key = random(32)
  const adata: Adata = [[base64(random(16)), base64(random(8)), iterations, 256, 128, "aes", "gcm", "zlib"], format, 0, burn ? 1 : 0]
  const plain = await pipe(text.encode(JSON.stringify({ paste })), new CompressionStream("deflate-raw"))
  const { key: derived, parameters } = await cipher(key, password, adata)
  const ct = base64(new Uint8Array(await crypto.subtle.encrypt(parameters, derived, plain)))
  return { envelope: { adata, ct, verifier: hex(await verifierOf(key)) }, fragment: base58(key) }
}

/** Opens what `seal` made, or a PrivateBin client. Raises where the key or the password is wrong. */
export async function open(adata: Adata, ct: string, fragment: string, password: string): Promise<string> {
  const { key, parameters } = await cipher(fromBase58(fragment.replace(/^-/, "")), password, adata)
  const plain = new Uint8Array(await crypto.subtle.decrypt(parameters, key, fromBase64(ct)))
  const inflated = adata[0][7] === "zlib" ? await pipe(plain, new DecompressionStream("deflate-raw")) : plain
  return (JSON.parse(new TextDecoder().decode(inflated)) as { paste: string }).paste
}

/** The answer to a challenge: shows that one knows the key, and tells nothing of it. */
export async function prove(fragment: string, id: string, nonce: string): Promise<string> {
  const verifier = await verifierOf(fromBase58(fragment.replace(/^-/, "")))
  const key = await crypto.subtle.importKey("raw", verifier, { name: "HMAC", hash: "SHA-256" }, false, ["sign"])
  return hex(await crypto.subtle.sign("HMAC", key, text.encode(`reveal\n${id}\n${nonce}`)))
}
