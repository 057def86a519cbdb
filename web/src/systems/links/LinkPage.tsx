import { Anchor, Badge, Button, Group, NumberInput, SimpleGrid, Stack, Switch, Table, TagsInput, Text, Textarea, TextInput } from "@mantine/core"
import { IconArrowLeft } from "@tabler/icons-react"
import { type FormEvent, useEffect, useState } from "react"
import { api } from "../../api"
import { Copyable } from "../../parts/Copy"
import { Panel } from "../../parts/Panel"
import { Empty, Told } from "../../parts/Told"
import { useAction, useApi } from "../../use"
import { Charts } from "./Charts"
import { Qr } from "./Qr"
import { Rules } from "./Rules"
import type { Link } from "./types"

type Edit = { version: number; at: string; actor: string; before: Record<string, unknown> }

/** One link: its chart, its rules, its QR code, what can be changed about it, and what it was before. */
export function LinkPage({ id, back }: { id: string; back: () => void }) {
  const { data: link, error, reload } = useApi<Link>(`/api/links/links/${id}`, 5000)
  const drop = useAction(async () => {
    await api(`/api/links/links/${id}`, { method: "DELETE" })
    back()
  })
  return (
    <Stack>
      <Group justify="space-between">
        <Button variant="subtle" size="compact-sm" leftSection={<IconArrowLeft size={16} />} onClick={back}>
          All links
        </Button>
        {link && (
          <Button
            variant="subtle"
            color="red"
            size="compact-sm"
            loading={drop.busy}
            onClick={() => confirm(`${link.code} will answer 410 for ever. Delete it?`) && drop.run()}
          >
            Delete
          </Button>
        )}
      </Group>
      <Told problem={error ?? drop.error} />
      {link && (
        <>
          <div>
            <Group gap="xs">
              <Copyable value={link.short_url} />
              {link.archived && <Badge color="gray">archived</Badge>}
              <Badge variant="default">{link.state}</Badge>
            </Group>
            <Text size="sm" c="dimmed">
              leads to{" "}
              <Anchor href={link.url} target="_blank" rel="noreferrer" size="sm">
                {link.url}
              </Anchor>
            </Text>
          </div>
          <Charts path={`/api/links/links/${id}/stats`} title="Clicks" />
          <SimpleGrid cols={{ base: 1, md: 2 }} style={{ alignItems: "start" }}>
            <Change link={link} onSaved={reload} />
            <Qr link={link} />
          </SimpleGrid>
          <Rules link={link} onSaved={reload} />
          <History id={id} version={link.version} />
        </>
      )}
    </Stack>
  )
}

function Change({ link, onSaved }: { link: Link; onSaved: () => void }) {
  const [form, setForm] = useState(link)
  useEffect(() => setForm(link), [link.version])
  const set = (change: Partial<Link>) => setForm((before) => ({ ...before, ...change }))
  const save = useAction(async () => {
    const { url, title, notes, tags, max_visits, forward_query, crawlable, archived } = form
    const valid_until = form.valid_until ? new Date(form.valid_until).toISOString() : null
    await api(`/api/links/links/${link.id}`, {
      method: "PATCH",
      body: { url, title, notes, tags, max_visits: max_visits || null, valid_until, forward_query, crawlable, archived },
    })
    onSaved()
  })
  const submit = (event: FormEvent) => {
    event.preventDefault()
    void save.run()
  }
  return (
    <Panel title="Change" hint="Its code stays; what it was before is kept below.">
      <form onSubmit={submit}>
        <Stack gap="xs">
          <TextInput label="Leads to" value={form.url} onChange={(event) => set({ url: event.currentTarget.value })} required />
          <TextInput label="Title" value={form.title} onChange={(event) => set({ title: event.currentTarget.value })} />
          <TagsInput label="Tags" value={form.tags} onChange={(tags) => set({ tags })} />
          <Group grow>
            <TextInput label="Ends" type="datetime-local" value={local(form.valid_until)} onChange={(event) => set({ valid_until: event.currentTarget.value || null })} />
            <NumberInput label="Visits at most" value={form.max_visits ?? ""} onChange={(value) => set({ max_visits: Number(value) || null })} min={1} />
          </Group>
          <Textarea label="Notes" value={form.notes} onChange={(event) => set({ notes: event.currentTarget.value })} autosize maxRows={6} />
          <Switch label="Pass the visitor's query on" checked={form.forward_query} onChange={(event) => set({ forward_query: event.currentTarget.checked })} />
          <Switch label="Search engines may follow it" checked={form.crawlable} onChange={(event) => set({ crawlable: event.currentTarget.checked })} />
          <Switch label="Archived" checked={form.archived} onChange={(event) => set({ archived: event.currentTarget.checked })} />
          <Told problem={save.error} />
          <Button type="submit" loading={save.busy}>
            Save
          </Button>
        </Stack>
      </form>
    </Panel>
  )
}

function History({ id, version }: { id: string; version: number }) {
  const { data, error } = useApi<Edit[]>(`/api/links/links/${id}/history`, undefined, version)
  return (
    <Panel title="History">
      <Told problem={error} />
      {data?.length === 0 && <Empty>It has never been changed.</Empty>}
      {!!data?.length && (
        <Table>
          <Table.Tbody>
            {data.map((one) => (
              <Table.Tr key={one.version}>
                <Table.Td>{new Date(one.at).toLocaleString()}</Table.Td>
                <Table.Td>{one.actor}</Table.Td>
                <Table.Td className="mono">
                  {Object.entries(one.before).map(([name, value]) => (
                    <div key={name}>
                      {name} was {JSON.stringify(value)}
                    </div>
                  ))}
                </Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      )}
    </Panel>
  )
}

/** RFC 3339 as a `datetime-local` field writes it, in the reader's own time zone. */
function local(text: string | null): string {
  if (!text) return ""
  const at = new Date(text)
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16)
}
