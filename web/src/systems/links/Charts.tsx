import { AreaChart, BarChart } from "@mantine/charts"
import { Group, SegmentedControl, Select, Table, Text } from "@mantine/core"
import { useState } from "react"
import { Panel } from "../../parts/Panel"
import { Empty, Told } from "../../parts/Told"
import { many } from "../../text"
import { useApi } from "../../use"
import type { Series } from "./types"

const times = ["hour", "day", "month"]
const dimensions = ["country", "city", "referrer", "browser", "os", "device", "language", "source"]
const days = { "1": "today", "7": "7 days", "30": "30 days", "365": "a year" }

/** Clicks by time or by anything that is known of a visitor; bots are counted apart. */
export function Charts({ path, title }: { path: string; title: string }) {
  const [by, setBy] = useState("day")
  const [span, setSpan] = useState("30")
  const since = new Date(Date.now() - (Number(span) - 1) * 86_400_000).toISOString().slice(0, 10)
  const { data, error } = useApi<Series>(`${path}?by=${by}&since=${since}T00:00:00Z`, 2000)
  const chart = {
    h: 240,
    data: filled(data?.points ?? [], by, Number(span)).map((one) => ({ ...one, key: one.key || "not known" })),
    dataKey: "key",
    withLegend: true,
    series: [
      { name: "clicks", color: "brass.6" },
      { name: "bots", color: "gray.5" },
    ],
  }
  return (
    <Panel
      title={title}
      right={
        <Group gap="xs">
          <SegmentedControl size="xs" data={Object.entries(days).map(([value, label]) => ({ value, label }))} value={span} onChange={setSpan} aria-label="Since" />
          <Select
            size="xs"
            w={120}
            aria-label="By"
            data={[{ group: "time", items: times }, { group: "visitor", items: dimensions }]}
            value={by}
            onChange={(value) => setBy(value ?? "day")}
            allowDeselect={false}
          />
        </Group>
      }
    >
      <Told problem={error} />
      {data && (
        <Text size="sm" mb="xs" data-testid="sums">
          {many(data.clicks, "click")}, {data.bots.toLocaleString()} of them by bots; about {many(data.visitors, "visitor")}
        </Text>
      )}
      {data?.points.length === 0 && <Empty>No clicks in this time.</Empty>}
      {!!data?.points.length && (times.includes(by) ? <AreaChart {...chart} curveType="monotone" withDots={false} /> : <BarChart {...chart} />)}
      {!!data?.points.length && dimensions.includes(by) && (
        <Table mt="sm">
          <Table.Tbody>
            {data.points.slice(0, 20).map((one) => (
              <Table.Tr key={one.key}>
                <Table.Td>{one.key || "not known"}</Table.Td>
                <Table.Td ta="right">{one.clicks.toLocaleString()}</Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      )}
    </Panel>
  )
}

type Point = Series["points"][number]

/** The server tells of instants that had clicks; a chart shows those that had none as well. */
function filled(points: Point[], by: string, spanDays: number): Point[] {
  if (!times.includes(by)) return points
  const letters = { hour: 13, day: 10, month: 7 }[by]!
  const found = new Map(points.map((one) => [one.key, one]))
  const keys = new Set<string>()
  const stepMs = by === "hour" ? 3_600_000 : 86_400_000
  const firstMs = Math.floor(Date.now() / 86_400_000 - spanDays + 1) * 86_400_000
  for (let atMs = firstMs; atMs <= Date.now(); atMs += stepMs) keys.add(new Date(atMs).toISOString().slice(0, letters))
  return [...keys].map((key) => found.get(key) ?? { key, clicks: 0, bots: 0 })
}
