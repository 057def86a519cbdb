import { LineChart } from "@mantine/charts"
import { Group, SimpleGrid, Slider, Text } from "@mantine/core"
import { useDebouncedValue } from "@mantine/hooks"
import { useEffect, useState } from "react"
import { api, type Problem } from "../../api"
import { Panel } from "../../parts/Panel"
import { Told } from "../../parts/Told"

type Step = { true_ms: number; wall_ms: number; last_ms: number; reserved_ms: number; minted: number; refused: string | null }
type Outcome = { steps: Step[]; minted: number; refused: number; distinct: boolean; increasing: boolean }

/** A minter whose clock is set back: what the clock shows, and how far the ids have come. Nothing real is minted. */
export function Setback() {
  const [setMs, setSetMs] = useState(-2000)
  const [perMs, setPerMs] = useState(4)
  const [asked] = useDebouncedValue(`${setMs} ${perMs}`, 150)
  const [outcome, setOutcome] = useState<Outcome>()
  const [error, setError] = useState<Problem>()
  useEffect(() => {
    const [set_ms, ids_per_ms] = asked.split(" ").map(Number)
    let newest = true
    api<Outcome>("/api/ids/simulate", { method: "POST", body: { set_ms, ids_per_ms } }).then(
      (value) => newest && (setOutcome(value), setError(undefined)),
      (reason) => newest && setError(reason),
    )
    return () => void (newest = false)
  }, [asked])
  const points = outcome?.steps.map((one) => ({ at: one.true_ms / 1000, clock: one.wall_ms / 1000, ids: one.last_ms / 1000 }))
  const reasons = [...new Set(outcome?.steps.map((one) => one.refused).filter(Boolean))]
  return (
    <Panel title="Set its clock back" hint="A minter in virtual time: after two seconds its clock is set. It holds on, and never gives an id twice.">
      <SimpleGrid cols={{ base: 1, md: 2 }}>
        <div>
          <Text size="sm">
            Set by {(setMs / 1000).toFixed(1)} s
          </Text>
          <Slider thumbLabel="Seconds that the clock is set by" min={-10_000} max={5000} step={100} value={setMs} onChange={setSetMs} label={(value) => `${value / 1000} s`} mb="lg"
            marks={[{ value: -5000, label: "−5 s" }, { value: 0, label: "0" }]} />
          <Text size="sm">
            {perMs.toLocaleString()} ids wanted each millisecond
          </Text>
          <Slider thumbLabel="Ids wanted each millisecond" min={1} max={5000} value={perMs} onChange={setPerMs} mb="lg" marks={[{ value: 4096, label: "4,096" }]} />
          <Told problem={error} />
          {outcome && (
            <Text size="sm" data-testid="setback">
              {outcome.minted.toLocaleString()} minted, {outcome.refused.toLocaleString()} refused
              {reasons.length > 0 && ` (${reasons.join(", ")})`}; every id {outcome.distinct ? "distinct" : "NOT DISTINCT"} and{" "}
              {outcome.increasing ? "rising" : "NOT RISING"}.
            </Text>
          )}
          <Group gap="md" mt="xs">
            <Text size="xs" c="dimmed">
              Back by up to 5 s it keeps counting at its last millisecond; further back it refuses until the clock has caught up.
            </Text>
          </Group>
        </div>
        {points && (
          <LineChart h={240} data={points} dataKey="at" withDots={false} curveType="linear" unit=" s" withLegend
            series={[{ name: "clock", color: "gray.5", label: "what the clock shows" }, { name: "ids", color: "brass.6", label: "time in the ids" }]} />
        )}
      </SimpleGrid>
    </Panel>
  )
}
