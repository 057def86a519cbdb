import { ActionIcon, Badge, Button, Group, MultiSelect, PasswordInput, Stack, Table, Tabs, Text, TextInput, Title, Tooltip } from "@mantine/core"
import { IconTrash } from "@tabler/icons-react"
import { type FormEvent, useState } from "react"
import { api } from "../api"
import { Snippet } from "../parts/Copy"
import { Panel } from "../parts/Panel"
import { Empty, Told } from "../parts/Told"
import { useAction, useApi } from "../use"
import { type Caller, useSystems } from "./systems"

type Token = { id: string; kind: string; name: string; hint: string; scopes: string[]; created_at: string; expires_at: string | null; last_used_at: string | null }
type Session = { id: string; address: string; agent: string; seen_at: string; current: boolean }
type Entry = { id: string; at: string; actor: string; means: string; action: string; target: string; address: string }
type Page<T> = { items: T[]; next: string | null }

const when = (text: string | null) => (text ? new Date(text).toLocaleString() : "never")

/** Who one is, one's tokens and sessions, and what has been done with which credentials. */
export function Account() {
  const { caller, reload } = useSystems()
  if (!caller?.account_id) return null
  const leave = async () => {
    await api("/-/session", { method: "DELETE" })
    reload()
  }
  return (
    <Stack maw={1000}>
      <Group justify="space-between">
        <div>
          <Title order={1} size="h2">
            {caller.name}
          </Title>
          <Text c="dimmed" size="sm">
            may {caller.scopes.join(", ") || "nothing yet"}
          </Text>
        </div>
        <Button variant="default" onClick={leave}>
          Sign out
        </Button>
      </Group>
      <SetUp />
      <Tabs defaultValue="tokens" keepMounted={false}>
        <Tabs.List mb="md">
          <Tabs.Tab value="tokens">Tokens</Tabs.Tab>
          <Tabs.Tab value="sessions">Sessions</Tabs.Tab>
          <Tabs.Tab value="audit">What happened</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="tokens">
          <Tokens caller={caller} />
        </Tabs.Panel>
        <Tabs.Panel value="sessions">
          <Sessions caller={caller} />
        </Tabs.Panel>
        <Tabs.Panel value="audit">
          <Audit />
        </Tabs.Panel>
      </Tabs>
    </Stack>
  )
}

/** Shown until the owner's account has a name and a password of its own. */
function SetUp() {
  const { reload } = useSystems()
  const state = useApi<{ done: boolean }>("/api/accounts/set-up")
  const [name, setName] = useState("owner")
  const [password, setPassword] = useState("")
  const save = useAction(async () => {
    await api("/api/accounts/set-up", { method: "POST", body: { name, password } })
    state.reload()
    reload()
  })
  if (!state.data || state.data.done) return null
  const submit = (event: FormEvent) => {
    event.preventDefault()
    void save.run()
  }
  return (
    <Panel title="Choose a password" hint="Then you can sign in from another browser as well, without the address that the start printed.">
      <form onSubmit={submit}>
        <Group align="flex-end">
          <TextInput label="Name" value={name} onChange={(event) => setName(event.currentTarget.value)} autoComplete="username" required />
          <PasswordInput
            label="Password"
            value={password}
            onChange={(event) => setPassword(event.currentTarget.value)}
            autoComplete="new-password"
            w={240}
            required
          />
          <Button type="submit" loading={save.busy}>
            Save
          </Button>
        </Group>
      </form>
      <Told problem={save.error} />
    </Panel>
  )
}

function Tokens({ caller }: { caller: Caller }) {
  const { systems } = useSystems()
  const { data, error, reload } = useApi<Token[]>(`/api/accounts/${caller.account_id}/tokens`)
  const [name, setName] = useState("")
  const [scopes, setScopes] = useState<string[]>([])
  const make = useAction(async () => {
    const made = await api<{ token: string }>("/api/accounts/tokens", { method: "POST", body: { name, scopes } })
    setName("")
    reload()
    return made
  })
  const drop = useAction(async (id: string) => {
    await api(`/api/accounts/tokens/${id}`, { method: "DELETE" })
    reload()
  })
  const choices = systems.flatMap((one) => [`${one.name}:read`, `${one.name}:write`, `${one.name}:*`])
  const submit = (event: FormEvent) => {
    event.preventDefault()
    void make.run()
  }
  return (
    <Stack>
      <Panel title="A new token" hint="For a program. It is shown once; only its digest is kept.">
        <form onSubmit={submit}>
          <Group align="flex-end">
            <TextInput label="What for" value={name} onChange={(event) => setName(event.currentTarget.value)} placeholder="deploy script" required />
            <MultiSelect label="May" data={choices} value={scopes} onChange={setScopes} searchable miw={260} placeholder={scopes.length ? "" : "links:write …"} />
            <Button type="submit" loading={make.busy} disabled={scopes.length === 0}>
              Create
            </Button>
          </Group>
        </form>
        <Told problem={make.error} />
        {make.result && (
          <Stack gap={4} mt="md">
            <Text size="sm">Copy it now; it is not shown again.</Text>
            <Snippet label="token" code={make.result.token} />
          </Stack>
        )}
      </Panel>
      <Panel title="Tokens">
        <Told problem={error ?? drop.error} />
        {data?.length === 0 && <Empty>There are none yet.</Empty>}
        {!!data?.length && (
          <Table.ScrollContainer minWidth={560}>
            <Table>
              <Table.Thead>
                <Table.Tr>
                  <Table.Th>What for</Table.Th>
                  <Table.Th>May</Table.Th>
                  <Table.Th>Last used</Table.Th>
                  <Table.Th />
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {data.map((one) => (
                  <Table.Tr key={one.id}>
                    <Table.Td>
                      {one.name}{" "}
                      <Text span c="dimmed" size="xs" className="mono">
                        {one.hint}…
                      </Text>
                    </Table.Td>
                    <Table.Td>{one.scopes.join(", ")}</Table.Td>
                    <Table.Td>{when(one.last_used_at)}</Table.Td>
                    <Table.Td ta="right">
                      <Tooltip label="Refuse it from now on">
                        <ActionIcon variant="subtle" color="red" aria-label={`Revoke ${one.name}`} onClick={() => drop.run(one.id)}>
                          <IconTrash size={16} />
                        </ActionIcon>
                      </Tooltip>
                    </Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          </Table.ScrollContainer>
        )}
      </Panel>
    </Stack>
  )
}

function Sessions({ caller }: { caller: Caller }) {
  const { data, error, reload } = useApi<Session[]>(`/api/accounts/${caller.account_id}/sessions`)
  const end = useAction(async (id: string) => {
    await api(`/api/accounts/sessions/${id}`, { method: "DELETE" })
    reload()
  })
  return (
    <Panel title="Sessions" hint="Browsers that are signed in. One that is ended is refused within a second.">
      <Told problem={error ?? end.error} />
      <Table.ScrollContainer minWidth={560}>
        <Table>
          <Table.Tbody>
            {data?.map((one) => (
              <Table.Tr key={one.id}>
                <Table.Td>
                  <Text size="sm" lineClamp={1}>
                    {one.agent || "unknown"}
                  </Text>
                  <Text size="xs" c="dimmed">
                    {one.address}, seen {when(one.seen_at)}
                  </Text>
                </Table.Td>
                <Table.Td ta="right">
                  {one.current ? (
                    <Badge variant="light">this one</Badge>
                  ) : (
                    <Button size="compact-sm" variant="subtle" color="red" onClick={() => end.run(one.id)}>
                      End
                    </Button>
                  )}
                </Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
    </Panel>
  )
}

function Audit() {
  const [cursor, setCursor] = useState<string>()
  const { data, error } = useApi<Page<Entry>>(`/api/accounts/audit${cursor ? `?cursor=${encodeURIComponent(cursor)}` : ""}`)
  return (
    <Panel title="What happened" hint="Every change of accounts and credentials, newest first.">
      <Told problem={error} />
      <Table.ScrollContainer minWidth={640}>
        <Table>
          <Table.Tbody>
            {data?.items.map((one) => (
              <Table.Tr key={one.id}>
                <Table.Td>{when(one.at)}</Table.Td>
                <Table.Td>
                  {one.actor}{" "}
                  <Text span c="dimmed" size="xs">
                    {one.means}
                  </Text>
                </Table.Td>
                <Table.Td>{one.action}</Table.Td>
                <Table.Td className="mono">{one.target}</Table.Td>
                <Table.Td>{one.address}</Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
      <Group justify="flex-end">
        {cursor && (
          <Button variant="default" size="xs" onClick={() => setCursor(undefined)}>
            Newest
          </Button>
        )}
        <Button variant="default" size="xs" disabled={!data?.next} onClick={() => setCursor(data?.next ?? undefined)}>
          Older
        </Button>
      </Group>
    </Panel>
  )
}
