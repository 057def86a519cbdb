import { createContext, useContext } from "react"

/** What `/-/systems` tells of each system. */
export type SystemInfo = {
  name: string
  family: string
  title: string
  summary: string
  promise: string
  level: number
  missing: string[]
  keywords: string[]
  state: "idle" | "running" | "failed" | "missing" | "building"
  reason?: string
  listeners: { name: string; protocol: string; address: string; state: string; reason?: string }[]
}

export type Caller = { account_id: string | null; name: string; kind: string; scopes: string[] }

export const Systems = createContext<{ systems: SystemInfo[]; caller: Caller | undefined; reload: () => void }>({
  systems: [],
  caller: undefined,
  reload: () => undefined,
})

export const useSystems = () => useContext(Systems)

/** Systems whose name, family, title, summary or keywords hold every word of the query, best first. */
export function find(systems: SystemInfo[], query: string): SystemInfo[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean)
  if (words.length === 0) return systems
  const score = (one: SystemInfo) => {
    const strong = `${one.name} ${one.title}`.toLowerCase()
    const all = `${strong} ${one.family} ${one.summary} ${one.keywords.join(" ")} ${one.promise}`.toLowerCase()
    if (!words.every((word) => all.includes(word))) return 0
    return 1 + words.filter((word) => strong.includes(word)).length
  }
  return systems
    .map((one) => ({ one, points: score(one) }))
    .filter(({ points }) => points > 0)
    .sort((a, b) => b.points - a.points)
    .map(({ one }) => one)
}
