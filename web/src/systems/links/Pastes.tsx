import { Anchor, Badge, Button, Code, Group, PasswordInput, Select, Stack, Switch, Table, Tabs, Text, Textarea, TextInput } from "@mantine/core"
import { useDebouncedValue } from "@mantine/hooks"
import { type FormEvent, useEffect, useState } from "react"
import { api, apiText } from "../../api"
import { Copyable } from "../../parts/Copy"
import { Panel } from "../../parts/Panel"
import { Empty, Told } from "../../parts/Told"
import { many } from "../../text"
import { useAction, useApi } from "../../use"
import { type Adata, open, prove, seal } from "./seal"
import type { Page } from "./types"
import "./highlight.css"

type Paste = {
  id: string; url: string; title: string; format: string; language: string; visibility: string; open: boolean; sealed: boolean; proof: boolean
  has_password: boolean; reads_left: number | null; version: number; mine: boolean; created_at: string; expires_at: string | null; size_bytes: number
}
type Made = { id: string; url: string; delete_token: string }
type Body = { body?: string; ct?: string; adata?: Adata }

const expiries = ["5min", "10min", "1hour", "1day", "1week", "1month", "1year", "never"].map((value) => ({ value, label: value.replace(/^\d+/, "$& ") }))
const formats = [
  { value: "plain", label: "plain text" },
  { value: "code", label: "code" },
  { value: "markdown", label: "Markdown" },
]
const formatters: Record<string, string> = { plain: "plaintext", code: "syntaxhighlighting", markdown: "markdown" }

export function Pastes() {
  const [version, setVersion] = useState(0)
  const [opened, setOpened] = useState<string>()
  return (
    <Stack>
      <Editor onMade={() => setVersion((n) => n + 1)} />
      <OpenOne />
      <Mine version={version} open={setOpened} />
      {opened && <One key={opened} id={opened} close={() => (setOpened(undefined), setVersion((n) => n + 1))} />}
    </Stack>
  )
}

function Editor({ onMade }: { onMade: () => void }) {
  const [body, setBody] = useState("")
  const [title, setTitle] = useState("")
  const [format, setFormat] = useState("plain")
  const [expire, setExpire] = useState("1day")
  const [password, setPassword] = useState("")
  const [sealed, setSealed] = useState(true)
  const [burn, setBurn] = useState(false)
  const make = useAction(async () => {
    const common = { expire, ...(burn ? { burn_after: 1 } : {}) }
    if (!sealed) {
      return api<Made>("/api/links/pastes", { method: "POST", body: { ...common, body, title, format, ...(password ? { password } : {}) } })
    }
    const { envelope, fragment } = await seal(body, password, formatters[format]!, burn)
    const made = await api<Made>("/api/links/pastes", { method: "POST", body: { ...common, sealed: envelope } })
    return { ...made, url: `${made.url}#${fragment}` }
  })
  const submit = async (event: FormEvent) => {
    event.preventDefault()
    if (await make.run()) {
      setBody("")
      onMade()
    }
  }
  return (
    <Panel title="Paste" hint={sealed ? "Sealed here, in your browser: the server never sees the text or the key." : "The server can read this one, and show it to whoever has its address."}>
      <form onSubmit={submit}>
        <Stack gap="sm">
          <Tabs defaultValue="write" keepMounted={false}>
            <Tabs.List>
              <Tabs.Tab value="write">Write</Tabs.Tab>
              <Tabs.Tab value="look" disabled={sealed || format === "plain"}>
                Look
              </Tabs.Tab>
            </Tabs.List>
            <Tabs.Panel value="write" pt="xs">
              <Textarea aria-label="Text" value={body} onChange={(event) => setBody(event.currentTarget.value)} minRows={8} maxRows={24} autosize classNames={{ input: "mono" }} required spellCheck={false} />
            </Tabs.Panel>
            <Tabs.Panel value="look" pt="xs">
              <Preview body={body} format={format} />
            </Tabs.Panel>
          </Tabs>
          <Group align="flex-end" gap="sm">
            {!sealed && <TextInput label="Title" value={title} onChange={(event) => setTitle(event.currentTarget.value)} w={180} />}
            <Select label="It is" data={formats} value={format} onChange={(value) => setFormat(value ?? "plain")} allowDeselect={false} w={130} />
            <Select label="Gone after" data={expiries} value={expire} onChange={(value) => setExpire(value ?? "1day")} allowDeselect={false} w={120} />
            <PasswordInput label="Password" value={password} onChange={(event) => setPassword(event.currentTarget.value)} autoComplete="off" w={160} />
            <Switch label="Sealed" checked={sealed} onChange={(event) => setSealed(event.currentTarget.checked)} mb={8} />
            <Switch label="Burn after reading" checked={burn} onChange={(event) => setBurn(event.currentTarget.checked)} mb={8} />
            <Button type="submit" loading={make.busy} disabled={!body}>
              Paste
            </Button>
          </Group>
        </Stack>
      </form>
      <Told problem={make.error} />
      {make.result && (
        <Stack gap={2} mt="md" data-testid="pasted">
          <Copyable value={make.result.url} />
          <Text size="xs" c="dimmed">
            Whoever has this address can read it. To delete it early: <Code>{make.result.delete_token.slice(0, 12)}…</Code>
          </Text>
        </Stack>
      )}
    </Panel>
  )
}

function Preview({ body, format }: { body: string; format: string }) {
  const [html, setHtml] = useState("")
  const [wanted] = useDebouncedValue(body, 300)
  useEffect(() => {
    let newest = true
    api<{ html: string }>("/api/links/pastes/preview", { method: "POST", body: { body: wanted, format } }).then(
      (shown) => newest && setHtml(shown.html),
      () => newest && setHtml(""),
    )
    return () => void (newest = false)
  }, [wanted, format])
  return <Html html={html} />
}

/** HTML that the server has made safe. */
function Html({ html }: { html: string }) {
  return <div className="shown" dangerouslySetInnerHTML={{ __html: html }} />
}

/** Reads any paste by its address. A sealed one is only asked for, and so perhaps burned, after a click. */
function OpenOne() {
  const [address, setAddress] = useState("")
  const [password, setPassword] = useState("")
  const [asked, setAsked] = useState<Paste>()
  const find = useAction(async () => {
    const { id } = partsOf(address)
    const paste = await api<Paste>(`/api/links/pastes/${id}`)
    setAsked(paste)
    return paste
  })
  const reveal = useAction(async () => {
    const { id, fragment } = partsOf(address)
    let proof: Record<string, string> = {}
    if (asked?.proof) {
      const { nonce } = await api<{ nonce: string }>(`/api/links/pastes/${id}/challenge`, { method: "POST" })
      proof = { nonce, mac: await prove(fragment, id, nonce) }
    }
    if (asked && !asked.sealed && password) proof.password = password
    const shown = await api<Body>(`/api/links/pastes/${id}/reveal`, { method: "POST", body: proof })
    if (shown.body !== undefined) return shown.body
    try {
      return await open(shown.adata!, shown.ct!, fragment, password)
    } catch {
      return "\u0000"
    }
  })
  const submit = (event: FormEvent) => {
    event.preventDefault()
    reveal.clear()
    void find.run()
  }
  return (
    <Panel title="Open" hint="A paste by its address, from here or from any PrivateBin client.">
      <form onSubmit={submit}>
        <Group align="flex-end">
          <TextInput aria-label="Address of a paste" placeholder="http://…/?id#key" value={address} onChange={(event) => (setAddress(event.currentTarget.value), setAsked(undefined))} style={{ flex: 1 }} required />
          <Button type="submit" variant="default" loading={find.busy}>
            Find
          </Button>
        </Group>
      </form>
      <Told problem={find.error ?? reveal.error} />
      {asked && (
        <Group mt="sm" align="flex-end" data-testid="found">
          {(asked.has_password || asked.sealed) && (
            <PasswordInput label="Password, if it has one" value={password} onChange={(event) => setPassword(event.currentTarget.value)} autoComplete="off" w={220} />
          )}
          <Button onClick={() => reveal.run()} loading={reveal.busy}>
            {asked.reads_left === 1 ? "Show it, once and for all" : "Show it"}
          </Button>
          {asked.reads_left !== null && <Badge color="red" variant="light">{many(asked.reads_left, "read")} left</Badge>}
        </Group>
      )}
      {reveal.result === "\u0000" ? (
        <Text c="red" role="alert" mt="sm">
          The key in the address, or the password, is wrong.
        </Text>
      ) : (
        reveal.result !== undefined && (
          <Textarea mt="sm" aria-label="What it says" value={reveal.result} readOnly autosize maxRows={24} classNames={{ input: "mono" }} />
        )
      )}
    </Panel>
  )
}

function partsOf(address: string): { id: string; fragment: string } {
  const [front = "", fragment = ""] = address.trim().split("#")
  return { id: /([0-9a-f]{16})\W*$/.exec(front)?.[1] ?? "none", fragment }
}

function Mine({ version, open }: { version: number; open: (id: string) => void }) {
  const [query, setQuery] = useState("")
  const [wanted] = useDebouncedValue(query, 250)
  const { data, error } = useApi<Page<Paste>>(`/api/links/pastes?q=${encodeURIComponent(wanted)}`, undefined, version)
  return (
    <Panel
      title="Mine"
      right={<TextInput size="xs" type="search" aria-label="Find pastes" placeholder="find" value={query} onChange={(event) => setQuery(event.currentTarget.value)} />}
    >
      <Told problem={error} />
      {data?.items.length === 0 && <Empty>{wanted ? "None of yours has that." : "There are none yet."}</Empty>}
      {!!data?.items.length && (
        <Table.ScrollContainer minWidth={520}>
          <Table data-testid="pastes">
            <Table.Tbody>
              {data.items.map((one) => (
                <Table.Tr key={one.id}>
                  <Table.Td>
                    {one.sealed ? (
                      <span className="mono">{one.id}</span>
                    ) : (
                      <Anchor component="button" type="button" onClick={() => open(one.id)}>
                        {one.title || one.id}
                      </Anchor>
                    )}
                  </Table.Td>
                  <Table.Td>
                    <Group gap={4}>
                      {one.sealed && <Badge size="xs">sealed</Badge>}
                      {one.reads_left !== null && <Badge size="xs" color="red">{many(one.reads_left, "read")} left</Badge>}
                      <Badge size="xs" variant="default">{one.language || one.format}</Badge>
                    </Group>
                  </Table.Td>
                  <Table.Td>{one.size_bytes.toLocaleString()} bytes</Table.Td>
                  <Table.Td>{one.expires_at ? `until ${new Date(one.expires_at).toLocaleString()}` : "for ever"}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Table.ScrollContainer>
      )}
    </Panel>
  )
}

/** One plain paste of one's own: shown, changed as a new version, compared, deleted. */
function One({ id, close }: { id: string; close: () => void }) {
  const { data: paste, error, reload } = useApi<Paste>(`/api/links/pastes/${id}`)
  const [body, setBody] = useState<string>()
  const [html, setHtml] = useState("")
  const [diff, setDiff] = useState<string>()
  useEffect(() => {
    if (!paste?.open) return
    apiText(`/api/links/pastes/${id}/raw`).then(setBody, () => undefined)
    api<{ html: string }>(`/api/links/pastes/${id}/html`).then((shown) => setHtml(shown.html), () => undefined)
    if (paste.version > 1) apiText(`/api/links/pastes/${id}/diff`).then(setDiff, () => undefined)
  }, [id, paste?.version, paste?.open])
  const save = useAction(async () => {
    await api(`/api/links/pastes/${id}`, { method: "PATCH", body: { body } })
    reload()
  })
  const drop = useAction(async () => {
    await api(`/api/links/pastes/${id}`, { method: "DELETE" })
    close()
  })
  return (
    <Panel
      title={paste?.title || id}
      hint={paste && `version ${paste.version}`}
      right={
        <Group gap="xs">
          <Button size="xs" variant="subtle" color="red" loading={drop.busy} onClick={() => confirm(`${paste?.title || id} will be gone, with all of its versions. Delete it?`) && drop.run()}>
            Delete
          </Button>
          <Button size="xs" variant="default" onClick={close}>
            Close
          </Button>
        </Group>
      }
    >
      <Told problem={error ?? save.error ?? drop.error} />
      {paste && !paste.open && <Text size="sm">It asks for a password, or burns: open it by its address above.</Text>}
      {paste?.open && (
        <Tabs defaultValue="shown">
          <Tabs.List>
            <Tabs.Tab value="shown">Shown</Tabs.Tab>
            <Tabs.Tab value="edit">Edit</Tabs.Tab>
            <Tabs.Tab value="diff" disabled={!diff}>
              Changes
            </Tabs.Tab>
          </Tabs.List>
          <Tabs.Panel value="shown" pt="xs">
            <Html html={html} />
          </Tabs.Panel>
          <Tabs.Panel value="edit" pt="xs">
            <Textarea aria-label="New text" value={body ?? ""} onChange={(event) => setBody(event.currentTarget.value)} autosize maxRows={24} classNames={{ input: "mono" }} />
            <Button mt="xs" size="xs" loading={save.busy} onClick={() => save.run()}>
              Save as a new version
            </Button>
          </Tabs.Panel>
          <Tabs.Panel value="diff" pt="xs">
            <Code block data-testid="diff">
              {diff}
            </Code>
          </Tabs.Panel>
        </Tabs>
      )}
    </Panel>
  )
}
