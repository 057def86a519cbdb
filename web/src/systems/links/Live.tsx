import { AreaChart } from "@mantine/charts"
import { Anchor, Badge, Group, SimpleGrid, Table, Text } from "@mantine/core"
import { useEffect, useRef, useState } from "react"
import { api, live } from "../../api"
import { Panel } from "../../parts/Panel"
import { Empty } from "../../parts/Told"
import type { Link } from "./types"

type Message = { clicks: number; links: Record<string, number>; countries?: Record<string, number> }

const seconds = 60

/** The country's name in the reader's language, where its code is one. */
const regions = new Intl.DisplayNames(undefined, { type: "region" })
const nameOf = (country: string) => (/^[A-Z]{2}$/.test(country) ? (regions.of(country) ?? country) : country)

/** Clicks as they are counted: how many each second, which links they went to, and from where they came. */
export function Live({ open }: { open: (id: string) => void }) {
  const now = useRef(0)
  const [rates, setRates] = useState<number[]>(Array(seconds).fill(0))
  const [counts, setCounts] = useState<Record<string, { clicks: number; at: number }>>({})
  const [countries, setCountries] = useState<Record<string, number>>({})
  const [names, setNames] = useState<Record<string, Link>>({})
  const [connected, setConnected] = useState(false)
  const asked = useRef(new Set<string>())
  useEffect(() => {
    const stop = live<Message>(
      "/api/links/live",
      (message) => {
        now.current += message.clicks
        setCounts((before) => {
          const after = { ...before }
          for (const [id, clicks] of Object.entries(message.links)) after[id] = { clicks: (before[id]?.clicks ?? 0) + clicks, at: Date.now() }
          return after
        })
        if (message.countries) {
          const more = Object.entries(message.countries)
          setCountries((before) => ({ ...before, ...Object.fromEntries(more.map(([country, clicks]) => [country, (before[country] ?? 0) + clicks])) }))
        }
        for (const id of Object.keys(message.links)) {
          if (asked.current.has(id)) continue
          asked.current.add(id)
          api<Link>(`/api/links/links/${id}`).then((link) => setNames((before) => ({ ...before, [id]: link })), () => undefined)
        }
      },
      setConnected,
    )
    const timer = setInterval(() => {
      const clicks = now.current
      now.current = 0
      setRates((before) => [...before.slice(1), clicks])
    }, 1000)
    return () => (stop(), clearInterval(timer))
  }, [])
  const rows = Object.entries(counts).sort(([, a], [, b]) => b.at - a.at).slice(0, 8)
  const places = Object.entries(countries).sort(([, a], [, b]) => b - a).slice(0, 12)
  return (
    <Panel title="Live" hint={connected ? "Clicks as they are counted, on every node" : "connecting …"}>
      {rows.length === 0 ? (
        <Empty>Open a short link, and its click appears here.</Empty>
      ) : (
        <SimpleGrid cols={{ base: 1, md: 2 }} data-testid="live">
          <AreaChart h={180} data={rates.map((clicks, n) => ({ at: `${seconds - n} s ago`, clicks }))} dataKey="at" series={[{ name: "clicks", color: "brass.6" }]} withDots={false} curveType="step" withXAxis={false} />
          <Table>
            <Table.Tbody>
              {rows.map(([id, one]) => (
                <Table.Tr key={id}>
                  <Table.Td>
                    <Anchor component="button" type="button" onClick={() => open(id)} fw={600}>
                      {names[id]?.code ?? "…"}
                    </Anchor>
                  </Table.Td>
                  <Table.Td>
                    <Text size="sm" c="dimmed" lineClamp={1}>
                      {names[id]?.title || names[id]?.url}
                    </Text>
                  </Table.Td>
                  <Table.Td ta="right">
                    <Group gap={4} justify="flex-end">
                      {one.clicks.toLocaleString()}
                      <Text span size="xs" c="dimmed">
                        since you look
                      </Text>
                    </Group>
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </SimpleGrid>
      )}
      {places.length > 0 && (
        <Group gap="xs" mt="sm" data-testid="countries">
          {places.map(([country, clicks]) => (
            <Badge key={country} variant="default" tt="none">
              {nameOf(country)} {clicks.toLocaleString()}
            </Badge>
          ))}
        </Group>
      )}
    </Panel>
  )
}
