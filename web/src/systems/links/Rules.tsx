import { ActionIcon, Badge, Button, Group, NumberInput, Select, Stack, Text, TextInput } from "@mantine/core"
import { useDebouncedValue } from "@mantine/hooks"
import { IconArrowUp, IconPlus, IconTrash } from "@tabler/icons-react"
import { useEffect, useState } from "react"
import { api } from "../../api"
import { Panel } from "../../parts/Panel"
import { Empty, Told } from "../../parts/Told"
import { useAction, useApi } from "../../use"
import type { Condition, Link, Rule } from "./types"

const kinds: Record<string, string> = {
  device: "mobile, tablet, desktop, ios, android …", os: "linux", browser: "firefox", language: "de", query: "value", "query-any-value": "",
  "query-valueless": "", country: "AT", city: "Vienna", ip: "192.0.2.0/24", referrer: "example.org", before: "2030-01-01T00:00:00Z",
  after: "2026-01-01T00:00:00Z", hours: "22:00-06:30",
}
type Explanation = {
  target: string
  rule: number | null
  trials: { rule: number; fires: boolean; holds: boolean; target: string; findings: { condition: Condition; holds: boolean; seen: string }[] }[]
}

/** Where which visitor goes: the first rule whose conditions all hold decides. "Try as" asks the server, with what is saved. */
export function Rules({ link, onSaved }: { link: Link; onSaved: () => void }) {
  const [rules, setRules] = useState<Rule[]>(link.rules)
  useEffect(() => setRules(link.rules), [link.version])
  const change = (place: number, rule: Rule) => setRules((before) => before.map((one, n) => (n === place ? rule : one)))
  const save = useAction(async () => {
    await api(`/api/links/links/${link.id}/rules`, { method: "PUT", body: { rules } })
    onSaved()
  })
  const dirty = JSON.stringify(rules) !== JSON.stringify(link.rules)
  return (
    <Panel
      title="Rules"
      hint="Tried from the top; the first that holds decides. Where none does, the link's own address is used."
      right={
        <Group gap="xs">
          <Button size="xs" variant="default" leftSection={<IconPlus size={14} />} onClick={() => setRules([...rules, { when: [{ kind: "device", value: "mobile" }], target: "" }])}>
            Rule
          </Button>
          <Button size="xs" disabled={!dirty} loading={save.busy} onClick={() => save.run()}>
            Save rules
          </Button>
        </Group>
      }
    >
      <Told problem={save.error} />
      <Stack gap="md">
        {rules.length === 0 && <Empty>There are none: everybody goes to the same place.</Empty>}
        {rules.map((rule, place) => (
          <OneRule
            key={place}
            place={place}
            rule={rule}
            change={(next) => change(place, next)}
            drop={() => setRules(rules.filter((_, n) => n !== place))}
            up={place ? () => setRules(rules.map((one, n) => (n === place - 1 ? rule : n === place ? rules[place - 1]! : one))) : undefined}
          />
        ))}
        <TryAs link={link} dirty={dirty} />
      </Stack>
    </Panel>
  )
}

function OneRule(props: { place: number; rule: Rule; change: (rule: Rule) => void; drop: () => void; up: (() => void) | undefined }) {
  const { place, rule, change } = props
  const when = rule.when ?? []
  const edit = (n: number, condition: Condition) => change({ ...rule, when: when.map((one, m) => (m === n ? condition : one)) })
  const split = rule.split ?? []
  return (
    <Stack gap={6} p="xs" style={{ borderInlineStart: "3px solid var(--mantine-primary-color-filled)" }} data-testid={`rule-${place}`}>
      {when.map((one, n) => (
        <Group key={n} gap="xs" wrap="wrap">
          <Text size="sm" w={32}>
            {n ? "and" : "if"}
          </Text>
          <Select size="xs" w={150} aria-label="Condition" data={Object.keys(kinds)} value={one.kind} onChange={(kind) => edit(n, { kind: kind ?? "device", value: "" })} allowDeselect={false} />
          {one.kind.startsWith("query") && (
            <TextInput size="xs" w={120} aria-label="Parameter" placeholder="parameter" value={one.key ?? ""} onChange={(event) => edit(n, { ...one, key: event.currentTarget.value })} />
          )}
          {kinds[one.kind] && (
            <TextInput size="xs" w={220} aria-label="Value" placeholder={kinds[one.kind]} value={one.value ?? ""} onChange={(event) => edit(n, { ...one, value: event.currentTarget.value })} />
          )}
          <ActionIcon size="sm" variant="subtle" color="gray" aria-label="Remove condition" onClick={() => change({ ...rule, when: when.filter((_, m) => m !== n) })}>
            <IconTrash size={14} />
          </ActionIcon>
        </Group>
      ))}
      <Group gap="xs">
        <Button size="compact-xs" variant="subtle" onClick={() => change({ ...rule, when: [...when, { kind: "language", value: "" }] })}>
          and …
        </Button>
        <Button size="compact-xs" variant="subtle" onClick={() => change({ when, split: [...split, { target: rule.target ?? "", weight: 1 }, ...(split.length ? [] : [{ target: "", weight: 1 }])] })}>
          split
        </Button>
      </Group>
      {split.length === 0 ? (
        <Group gap="xs" wrap="nowrap">
          <Text size="sm" w={32}>
            go to
          </Text>
          <TextInput size="xs" aria-label="Go to" placeholder="https://…" style={{ flex: 1 }} value={rule.target ?? ""} onChange={(event) => change({ ...rule, target: event.currentTarget.value })} />
        </Group>
      ) : (
        split.map((one, n) => (
          <Group key={n} gap="xs" wrap="nowrap">
            <NumberInput size="xs" w={80} min={1} aria-label="Weight" value={one.weight} onChange={(weight) => change({ ...rule, split: split.map((v, m) => (m === n ? { ...v, weight: Number(weight) || 1 } : v)) })} />
            <TextInput size="xs" aria-label="Go to" style={{ flex: 1 }} value={one.target} onChange={(event) => change({ ...rule, split: split.map((v, m) => (m === n ? { ...v, target: event.currentTarget.value } : v)) })} />
          </Group>
        ))
      )}
      <Group gap={4}>
        {props.up && (
          <ActionIcon size="sm" variant="subtle" color="gray" aria-label="Try it earlier" onClick={props.up}>
            <IconArrowUp size={14} />
          </ActionIcon>
        )}
        <ActionIcon size="sm" variant="subtle" color="red" aria-label="Remove rule" onClick={props.drop}>
          <IconTrash size={14} />
        </ActionIcon>
      </Group>
    </Stack>
  )
}

function TryAs({ link, dirty }: { link: Link; dirty: boolean }) {
  const [visitor, setVisitor] = useState<Record<string, string>>({})
  const asked = new URLSearchParams(Object.entries(visitor).filter(([, value]) => value)).toString()
  const [wanted] = useDebouncedValue(asked, 250)
  const { data, error } = useApi<Explanation>(`/api/links/links/${link.id}/explain?as=${encodeURIComponent(wanted)}`, undefined, link.version)
  const field = (name: string, placeholder: string, width = 120) => (
    <TextInput
      size="xs"
      w={width}
      label={name}
      placeholder={placeholder}
      value={visitor[name] ?? ""}
      onChange={(event) => {
        const { value } = event.currentTarget
        setVisitor((before) => ({ ...before, [name]: value }))
      }}
    />
  )
  return (
    <div>
      <Text fw={600} size="sm">
        Try as
      </Text>
      <Group gap="xs" align="flex-end">
        {field("device", "mobile")}
        {field("os", "ios")}
        {field("browser", "firefox")}
        {field("language", "de")}
        {field("country", "AT", 80)}
        {field("ip", "192.0.2.1")}
        {field("at", "2026-12-24T18:00:00Z", 190)}
      </Group>
      <Told problem={error} />
      {data && (
        <Stack gap={2} mt="xs" data-testid="explain">
          {dirty && (
            <Text size="xs" c="orange">
              Save the rules first: this asks with what is saved.
            </Text>
          )}
          <Text size="sm">
            {data.rule === null ? "No rule holds" : `Rule ${data.rule + 1} decides`}: goes to <b className="mono">{data.target}</b>
          </Text>
          {data.trials.map((one) => (
            <Group key={one.rule} gap="xs">
              <Badge size="sm" variant={one.fires ? "filled" : "default"} color={one.fires ? "teal" : "gray"}>
                rule {one.rule + 1}
              </Badge>
              {one.findings.map((finding, n) => (
                <Text key={n} size="xs" c={finding.holds ? "teal" : "dimmed"}>
                  {finding.condition.kind} {finding.condition.key} {finding.condition.value}: {finding.seen || "not known"}
                </Text>
              ))}
            </Group>
          ))}
        </Stack>
      )}
    </div>
  )
}
