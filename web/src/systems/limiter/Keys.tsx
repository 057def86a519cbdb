import { Badge, Button, Group, Progress, Select, Stack, Table, Text, TextInput } from "@mantine/core"
import { useState } from "react"
import { api } from "../../api"
import { Panel } from "../../parts/Panel"
import { Empty, Told } from "../../parts/Told"
import { useAction, useApi } from "../../use"

type Limit = { name: string; passed: boolean; limit: number; remaining: number; reset_s: number; retry_after_s: number }
type Decision = { allowed: boolean; remaining: number; limit: number; retry_after_s: number; reset_s: number; violated: string[]; store: string; limits: Limit[] }

/** One key under one policy: how it stands, a hit on it, a fresh start, a limit of its own. */
export function Keys() {
  const policies = useApi<{ name: string }[]>("/api/limiter/policies", 5000)
  const names = policies.data?.map((one) => one.name) ?? []
  const [chosen, setChosen] = useState<string | null>(null)
  const policy = chosen ?? names[0] ?? null
  const [key, setKey] = useState("user-1")
  const [own, setOwn] = useState("")
  const path = (what: string) => `/api/limiter/${encodeURIComponent(policy ?? "")}/${what}`
  const [shown, setShown] = useState<Decision & { peeked?: boolean }>()
  const act = useAction(async (what: "hit" | "peek") => {
    setShown({ ...(await api<Decision>(path(what), { method: "POST", body: { key } })), peeked: what === "peek" })
  })
  const reset = useAction(async () => {
    await api(path("reset"), { method: "POST", body: { key } })
    setShown({ ...(await api<Decision>(path("peek"), { method: "POST", body: { key } })), peeked: true })
  })
  const override = useAction(async () => {
    await api(`/api/limiter/overrides/${encodeURIComponent(key)}`, { method: "PUT", body: { limits: { [policy!]: own || null } } })
    setShown({ ...(await api<Decision>(path("peek"), { method: "POST", body: { key } })), peeked: true })
  })
  return (
    <Panel title="A key" hint="Look it up, try it, give it a limit of its own.">
      {names.length === 0 && <Empty>Set a policy first.</Empty>}
      {policy && (
        <Stack gap="sm">
          <Group align="flex-end" gap="xs">
            <Select label="Policy" data={names} value={policy} onChange={setChosen} w={140} allowDeselect={false} />
            <TextInput label="Key" value={key} onChange={(event) => setKey(event.currentTarget.value)} style={{ flex: "1 1 140px" }} />
          </Group>
          <Group gap="xs">
            <Button onClick={() => act.run("hit")} loading={act.busy}>
              Hit
            </Button>
            <Button variant="default" onClick={() => act.run("peek")}>
              Look
            </Button>
            <Button variant="default" onClick={() => reset.run()} loading={reset.busy}>
              Reset
            </Button>
          </Group>
          <Group align="flex-end" gap="xs">
            <TextInput label="A limit of its own" placeholder="1000/minute; empty ends it" value={own} onChange={(event) => setOwn(event.currentTarget.value)} classNames={{ input: "mono" }} style={{ flex: "1 1 180px" }} />
            <Button variant="default" onClick={() => override.run()} loading={override.busy}>
              Set it
            </Button>
          </Group>
          <Told problem={act.error ?? reset.error ?? override.error} />
          {shown && (
            <div data-testid="decision">
              <Group gap="xs" mb={4}>
                <Badge color={shown.allowed ? "teal" : "red"}>{shown.allowed ? "allowed" : "denied"}</Badge>
                <Text size="sm">
                  {shown.peeked && shown.allowed && "the next hit leaves "}
                  {shown.remaining.toLocaleString()} of {shown.limit.toLocaleString()}
                  {!(shown.peeked && shown.allowed) && " left"}
                  {!shown.allowed && `, again in ${shown.retry_after_s.toFixed(1)} s`}
                </Text>
                <Text size="xs" c="dimmed">
                  decided by {shown.store}
                </Text>
              </Group>
              <Table>
                <Table.Tbody>
                  {shown.limits.map((one) => (
                    <Table.Tr key={one.name}>
                      <Table.Td className="mono">{one.name}</Table.Td>
                      <Table.Td w="50%">
                        <Progress value={(100 * one.remaining) / Math.max(1, one.limit)} color={one.passed ? "teal" : "red"} aria-label={`${one.remaining} of ${one.limit} left`} />
                      </Table.Td>
                      <Table.Td ta="right">{one.remaining.toLocaleString()}</Table.Td>
                    </Table.Tr>
                  ))}
                </Table.Tbody>
              </Table>
            </div>
          )}
        </Stack>
      )}
    </Panel>
  )
}
