/** The JSON API as every page uses it: the session's cookie goes along, problems (RFC 9457) become errors. */

export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly type: string,
    readonly title: string,
    readonly detail: string,
    readonly more: Record<string, unknown>,
  ) {
    super(detail || title)
  }
  /** The field that was wrong, where the problem names one: "/body/url" → "url". */
  get field(): string | undefined {
    const pointer = this.more.pointer
    return typeof pointer === "string" ? pointer.split("/").slice(2).join(".") : undefined
  }
}

type Options = { method?: string; body?: unknown; raw?: BodyInit; headers?: Record<string, string>; signal?: AbortSignal }

async function request(path: string, options: Options): Promise<Response> {
  const headers: Record<string, string> = { accept: "application/json", ...options.headers }
  let body = options.raw
  if (options.body !== undefined) {
    headers["content-type"] ??= "application/json"
    body = JSON.stringify(options.body)
  }
  let answer: Response
  try {
    answer = await fetch(path, { method: options.method ?? "GET", headers, body, signal: options.signal ?? null })
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error
    throw new Problem(0, "unreachable", "The server does not answer", "Is it still running? Start it with: mainspring up", {})
  }
  if (answer.ok) return answer
  const told = await answer.json().catch(() => ({}))
  const { type = "", title = answer.statusText, detail = "", ...more } = told
  if (answer.status === 401) window.dispatchEvent(new Event("signed-out"))
  throw new Problem(answer.status, type, title, detail, more)
}

export async function api<T = unknown>(path: string, options: Options = {}): Promise<T> {
  const answer = await request(path, options)
  const text = await answer.text()
  return (text ? JSON.parse(text) : undefined) as T
}

export async function apiText(path: string, options: Options = {}): Promise<string> {
  return (await request(path, { ...options, headers: { accept: "*/*", ...options.headers } })).text()
}

export async function apiBlob(path: string, options: Options = {}): Promise<Blob> {
  return (await request(path, { ...options, headers: { accept: "*/*", ...options.headers } })).blob()
}

/** A WebSocket below /api that reconnects with a growing pause; gives what stops it. */
export function live<T>(path: string, onMessage: (message: T) => void, onState?: (open: boolean) => void): () => void {
  let stopped = false
  let socket: WebSocket | undefined
  let pause = 500
  let timer: ReturnType<typeof setTimeout>
  const connect = () => {
    const address = new URL(path, location.href)
    address.protocol = address.protocol.replace("http", "ws")
    socket = new WebSocket(address)
    socket.onopen = () => {
      pause = 500
      onState?.(true)
    }
    socket.onmessage = (event) => {
      // The server keeps a silent socket open with these (wire/websocket.py).
      if (event.data !== '{"type":"ping"}') onMessage(JSON.parse(event.data as string) as T)
    }
    socket.onclose = () => {
      onState?.(false)
      if (!stopped) timer = setTimeout(connect, (pause = Math.min(pause * 2, 15_000)))
    }
  }
  connect()
  return () => {
    stopped = true
    clearTimeout(timer)
    socket?.close()
  }
}
