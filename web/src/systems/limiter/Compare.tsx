import { LineChart } from "@mantine/charts"
import { Code, Group, SegmentedControl, SimpleGrid, Slider, Table, Text, TextInput } from "@mantine/core"
import { useDebouncedValue } from "@mantine/hooks"
import { useEffect, useState } from "react"
import { api, type Problem } from "../../api"
import { Panel } from "../../parts/Panel"
import { Told } from "../../parts/Told"

type Series = { limit: string; algorithm: string; admitted: number[]; refused: number[]; admitted_total: number; refused_total: number; fullest_window: number; bound: number }
type Simulated = { step_s: number; offered: number[]; series: Series[] }

const colours = ["brass.6", "blue.5", "teal.6", "grape.5", "orange.6", "pink.5", "cyan.6", "lime.6"]
const seconds = 60

/** A policy under a load, beside the same amount under every other algorithm, on one time axis. Nothing real is charged. */
export function Compare() {
  const [limit, setLimit] = useState("60/minute")
  const [rate, setRate] = useState(3)
  const [shape, setShape] = useState("random")
  const [shown, setShown] = useState("admitted")
  const [asked] = useDebouncedValue(JSON.stringify({ limits: [limit], load: [{ seconds, rate, shape }, { seconds, rate: rate / 4, shape }] }), 200)
  const [data, setData] = useState<Simulated>()
  const [error, setError] = useState<Problem>()
  useEffect(() => {
    if (!JSON.parse(asked).limits[0]) return
    // An answer to what was asked before must not come over the newest one.
    let newest = true
    api<Simulated>("/api/limiter/simulate", { method: "POST", body: JSON.parse(asked) }).then(
      (value) => newest && (setData(value), setError(undefined)),
      (reason) => newest && setError(reason),
    )
    return () => void (newest = false)
  }, [asked])
  // Sums so far: lines that lie on one another second by second come apart as they add up.
  const sums = (counts: number[]) => counts.map((sum => (count: number) => (sum += count))(0))
  const offered = sums(data?.offered ?? [])
  const lines = data?.series.map((one) => [one.algorithm, sums(shown === "admitted" ? one.admitted : one.refused)] as const) ?? []
  const points = data && offered.map((all, n) => ({ at: Math.round((n + 1) * data.step_s), offered: all, ...Object.fromEntries(lines.map(([name, so]) => [name, so[n]])) }))
  return (
    <Panel title="Try a limit" hint="A minute of load, then a minute at a quarter of it; every algorithm gets the same. The lines are hits so far.">
      <SimpleGrid cols={{ base: 1, md: 3 }}>
        <TextInput
          label="Limit"
          value={limit}
          onChange={(event) => setLimit(event.currentTarget.value)}
          classNames={{ input: "mono" }}
          description={
            <>
              such as <Code>100/minute</Code>, <Code>10/s burst 20</Code>
            </>
          }
          inputWrapperOrder={["label", "input", "description"]}
        />
        <div>
          <Text size="sm">
            {rate} hits a second
          </Text>
          <Slider thumbLabel="Hits a second" min={0.5} max={40} step={0.5} value={rate} onChange={setRate} mt="xs" />
        </div>
        <div>
          <Text size="sm">They come</Text>
          <SegmentedControl fullWidth size="xs" mt={6} data={["even", "random", "burst"]} value={shape} onChange={setShape} aria-label="They come" />
        </div>
      </SimpleGrid>
      <Told problem={error} />
      {data && points && (
        <>
          <Group justify="flex-end" mt="md" gap="xs">
            <Text size="sm" c="dimmed">
              Lines show what was
            </Text>
            <SegmentedControl size="xs" data={["admitted", "denied"]} value={shown} onChange={setShown} aria-label="Lines show what was" />
          </Group>
          <LineChart
            h={260}
            mt="xs"
            data={points}
            dataKey="at"
            withDots={false}
            withLegend
            curveType="linear"
            xAxisProps={{ unit: " s" }}
            series={[
              { name: "offered", color: "gray.5", label: "offered", strokeDasharray: "4 3" },
              ...data.series.map((one, n) => ({ name: one.algorithm, color: colours[n % colours.length]! })),
            ]}
          />
          <Table.ScrollContainer minWidth={560} mt="sm">
            <Table data-testid="compared">
              <Table.Thead>
                <Table.Tr>
                  <Table.Th>Algorithm</Table.Th>
                  <Table.Th>Written</Table.Th>
                  <Table.Th ta="right">Admitted</Table.Th>
                  <Table.Th ta="right">Denied</Table.Th>
                  <Table.Th ta="right">Fullest window</Table.Th>
                  <Table.Th ta="right">Its bound</Table.Th>
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {data.series.map((one) => (
                  <Table.Tr key={one.algorithm}>
                    <Table.Td>{one.algorithm}</Table.Td>
                    <Table.Td className="mono">{one.limit}</Table.Td>
                    <Table.Td ta="right">{one.admitted_total.toLocaleString()}</Table.Td>
                    <Table.Td ta="right">{one.refused_total.toLocaleString()}</Table.Td>
                    <Table.Td ta="right">{one.fullest_window.toLocaleString()}</Table.Td>
                    <Table.Td ta="right">{one.bound.toLocaleString()}</Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          </Table.ScrollContainer>
        </>
      )}
    </Panel>
  )
}
