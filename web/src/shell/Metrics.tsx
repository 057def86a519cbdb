import { AreaChart } from "@mantine/charts"
import { SimpleGrid, Table, Text } from "@mantine/core"
import { useEffect, useState } from "react"
import { apiText } from "../api"
import { Panel } from "../parts/Panel"
import { Empty } from "../parts/Told"

type Sample = { name: string; labels: Record<string, string>; value: number }

/** Samples of the Prometheus text format. */
export function parse(text: string): Sample[] {
  const samples: Sample[] = []
  for (const line of text.split("\n")) {
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line)
    if (!match || line.startsWith("#")) continue
    const labels: Record<string, string> = {}
    for (const [, key, value] of (match[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[key!] = value!
    samples.push({ name: match[1]!, labels, value: Number(match[3]) })
  }
  return samples
}

const everyMs = 2000
const points = 60
const figuresShown = 300

/** Requests and their duration as they happen, and every figure that carries the system's name. */
export function Metrics({ name }: { name: string }) {
  const [history, setHistory] = useState<{ at: string; requests: number; ms: number }[]>([])
  const [own, setOwn] = useState<Sample[]>([])
  useEffect(() => {
    let last: { count: number; sum: number; at: number } | undefined
    const load = async () => {
      if (document.hidden) return
      const samples = parse(await apiText("/metrics"))
      const mine = samples.filter((one) => one.labels.system === name || one.name.startsWith(`${name}_`))
      const total = (suffix: string) =>
        mine.filter((one) => one.name === `http_request_seconds_${suffix}`).reduce((sum, one) => sum + one.value, 0)
      const now = { count: total("count"), sum: total("sum"), at: performance.now() }
      if (last) {
        const requests = now.count - last.count
        const point = {
          at: new Date().toLocaleTimeString(),
          requests: Math.round((requests / (now.at - last.at)) * 10_000) / 10,
          ms: requests ? Math.round(((now.sum - last.sum) / requests) * 1e6) / 1000 : 0,
        }
        setHistory((before) => [...before, point].slice(-points))
      }
      last = now
      setOwn(mine.filter((one) => !/_bucket$/.test(one.name) && !one.name.startsWith("http_")))
    }
    load().catch(() => undefined)
    const timer = setInterval(() => load().catch(() => undefined), everyMs)
    return () => clearInterval(timer)
  }, [name])
  const chart = { h: 180, data: history, dataKey: "at", curveType: "monotone" as const, withDots: false, tickLine: "none" as const }
  return (
    <SimpleGrid cols={{ base: 1, md: 2 }}>
      <Panel title="Requests a second">
        {history.length ? <AreaChart {...chart} series={[{ name: "requests", color: "brass.6" }]} /> : <Empty>Measuring …</Empty>}
      </Panel>
      <Panel title="Milliseconds a request">
        {history.length ? <AreaChart {...chart} series={[{ name: "ms", color: "teal.6" }]} /> : <Empty>Measuring …</Empty>}
      </Panel>
      {own.length > 0 && (
        <Panel title="Its own figures" hint="As Prometheus reads them at /metrics">
          <Table>
            <Table.Tbody>
              {own.slice(0, figuresShown).map((one) => (
                <Table.Tr key={one.name + JSON.stringify(one.labels)}>
                  <Table.Td>
                    <Text size="sm" className="mono">
                      {one.name}
                    </Text>
                    <Text size="xs" c="dimmed">
                      {Object.entries(one.labels).map(([key, value]) => `${key}=${value}`).join(" ")}
                    </Text>
                  </Table.Td>
                  <Table.Td ta="right">{Number.isInteger(one.value) ? one.value.toLocaleString() : one.value.toPrecision(4)}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Panel>
      )}
    </SimpleGrid>
  )
}
