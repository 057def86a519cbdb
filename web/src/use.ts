import { useCallback, useEffect, useRef, useState } from "react"
import { api, Problem } from "./api"

/** What an address answers: loaded at once, again on `reload()`, when `follows` changes, and every `everyMs` while the page is
 * visible. */
export function useApi<T>(path: string | null, everyMs?: number, follows?: unknown) {
  const [data, setData] = useState<T>()
  const [error, setError] = useState<Problem>()
  const [version, setVersion] = useState(0)
  const reload = useCallback(() => setVersion((n) => n + 1), [])
  useEffect(() => {
    if (path === null) return
    const stop = new AbortController()
    const load = () =>
      api<T>(path, { signal: stop.signal }).then(
        (value) => {
          setData(value)
          setError(undefined)
        },
        (reason) => reason.name !== "AbortError" && setError(reason as Problem),
      )
    load()
    const timer = everyMs ? setInterval(() => document.hidden || load(), everyMs) : undefined
    return () => {
      stop.abort()
      clearInterval(timer)
    }
  }, [path, everyMs, version, follows])
  return { data, error, reload }
}

/** A call that a person starts: whether it runs, what it gave, what went wrong. A second start is refused while one runs. */
export function useAction<A extends unknown[], T>(act: (...args: A) => Promise<T>) {
  const [busy, setBusy] = useState(false)
  const [result, setResult] = useState<T>()
  const [error, setError] = useState<Problem>()
  const running = useRef(false)
  const run = async (...args: A): Promise<T | undefined> => {
    if (running.current) return undefined
    running.current = true
    setBusy(true)
    setError(undefined)
    try {
      const value = await act(...args)
      setResult(value)
      return value
    } catch (reason) {
      if (!(reason instanceof Problem)) throw reason
      setError(reason)
      return undefined
    } finally {
      running.current = false
      setBusy(false)
    }
  }
  return { run, busy, result, error, clear: () => (setError(undefined), setResult(undefined)) }
}
