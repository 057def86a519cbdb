import { lazy, type ComponentType } from "react"

/** What a system brings to the console: its page, and lines of code that reach it from outside. */
export type Snippets = (address: { origin: string; listeners: Record<string, string> }) => { label: string; code: string }[]
export type System = { Page: ComponentType; snippets: Snippets }

const pages: Record<string, () => Promise<System>> = {
  ids: () => import("./ids"),
  limiter: () => import("./limiter"),
  links: () => import("./links"),
  log: () => import("./log"),
  objects: () => import("./objects"),
}

const loaded = new Map<string, Promise<System>>()
const lazyPages = new Map<string, ComponentType>()

/** The code of a system's page, loaded when its page is opened. */
export function load(name: string): Promise<System> | undefined {
  if (!pages[name]) return undefined
  if (!loaded.has(name)) loaded.set(name, pages[name]())
  return loaded.get(name)
}

export function pageOf(name: string): ComponentType | undefined {
  if (!pages[name]) return undefined
  if (!lazyPages.has(name)) lazyPages.set(name, lazy(() => load(name)!.then((system) => ({ default: system.Page }))))
  return lazyPages.get(name)
}
