import { Alert, Anchor, Badge, Group, List, Stack, Table, Tabs, Text, Title } from "@mantine/core"
import { useEffect, useState } from "react"
import { useSearchParams } from "wouter"
import { Copyable, Snippet } from "../parts/Copy"
import { Panel } from "../parts/Panel"
import { Empty } from "../parts/Told"
import { load, pageOf } from "../systems/registry"
import { Metrics } from "./Metrics"
import { State } from "./State"
import { type SystemInfo, useSystems } from "./systems"

const tabs = ["use", "api", "metrics", "about"] as const

/** One system: a client of it that a person can use, how to reach it from code, what it does right now, what it promises. */
export function SystemPage({ name }: { name: string }) {
  const system = useSystems().systems.find((one) => one.name === name)
  const [params, setParams] = useSearchParams()
  const tab = tabs.find((one) => one === params.get("tab")) ?? "use"
  const Page = pageOf(name)
  useEffect(() => {
    document.title = system ? `${system.title} · Mainspring` : "Mainspring"
    return () => void (document.title = "Mainspring")
  }, [system?.title])
  if (!system) return <Empty>There is no system named {name}. The list on the left has them all.</Empty>
  return (
    <Stack gap="md" maw={1200}>
      <div>
        <Group gap="xs">
          <Title order={1} size="h2">
            {system.title}
          </Title>
          <State system={system} />
          <Badge variant="default" size="sm">
            level {system.level}
          </Badge>
        </Group>
        <Text c="dimmed">{system.summary}</Text>
      </div>
      {system.state === "missing" && (
        <Alert color="yellow" title="Not installed">
          {system.reason}
        </Alert>
      )}
      <Tabs value={tab} onChange={(value) => setParams(value === "use" ? {} : { tab: value ?? "use" })} keepMounted={false}>
        <Tabs.List mb="md">
          <Tabs.Tab value="use">Use</Tabs.Tab>
          <Tabs.Tab value="api">From code</Tabs.Tab>
          <Tabs.Tab value="metrics">Metrics</Tabs.Tab>
          <Tabs.Tab value="about">About</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="use">{Page ? <Page /> : <Empty>This system has no page yet; use it from code.</Empty>}</Tabs.Panel>
        <Tabs.Panel value="api">
          <FromCode system={system} />
        </Tabs.Panel>
        <Tabs.Panel value="metrics">
          <Metrics name={name} />
        </Tabs.Panel>
        <Tabs.Panel value="about">
          <Panel title="What it promises">
            <Text>{system.promise}</Text>
            {system.missing.length > 0 && (
              <>
                <Text fw={600} mt="md">
                  Missing for the next level
                </Text>
                <List size="sm">
                  {system.missing.map((line) => (
                    <List.Item key={line}>{line}</List.Item>
                  ))}
                </List>
              </>
            )}
          </Panel>
        </Tabs.Panel>
      </Tabs>
    </Stack>
  )
}

function FromCode({ system }: { system: SystemInfo }) {
  const [code, setCode] = useState<{ label: string; code: string }[]>([])
  const listeners = Object.fromEntries(system.listeners.map((one) => [one.name, one.address]))
  useEffect(() => {
    load(system.name)?.then(({ snippets }) => setCode(snippets({ origin: location.origin, listeners })))
  }, [system.name])
  return (
    <Stack>
      <Panel title="A token" hint="Everything that changes state needs one.">
        <Snippet label="token" code={`mainspring token create ${system.name}`} />
      </Panel>
      {system.listeners.length > 0 && (
        <Panel title="Its own doors" hint="Where the clients of its field connect.">
          <Table>
            <Table.Tbody>
              {system.listeners.map((one) => (
                <Table.Tr key={one.name}>
                  <Table.Td>{one.name}</Table.Td>
                  <Table.Td>{one.protocol}</Table.Td>
                  <Table.Td>
                    {one.state === "off" ? <Text size="sm">off: {one.reason}</Text> : <Copyable value={one.address} />}
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Panel>
      )}
      {code.map((one) => (
        <Panel key={one.label} title={one.label}>
          <Snippet label={one.label} code={one.code} />
        </Panel>
      ))}
      <Text size="sm" c="dimmed">
        The whole API as{" "}
        <Anchor href={`/api/${system.name}/openapi.json`} target="_blank">
          OpenAPI 3.1
        </Anchor>
        .
      </Text>
    </Stack>
  )
}
