import { Anchor, Button, Collapse, Group, NumberInput, PasswordInput, Stack, TagsInput, Text, TextInput } from "@mantine/core"
import { useDebouncedValue } from "@mantine/hooks"
import { type FormEvent, useState } from "react"
import { api } from "../../api"
import { Copyable } from "../../parts/Copy"
import { Panel } from "../../parts/Panel"
import { Told } from "../../parts/Told"
import { useAction, useApi } from "../../use"
import type { Link } from "./types"

const empty = { url: "", alias: "", title: "", tags: [] as string[], valid_until: "", max_visits: "" as string | number, password: "", utm: {} as Record<string, string> }
/** What a campaign's own parameters are called: `utm_source` and so on. */
const campaign = ["source", "medium", "campaign", "term", "content"]

/** Shortens an address; tells while one types whether the alias can still be had. */
export function Shorten({ onMade }: { onMade: () => void }) {
  const [form, setForm] = useState(empty)
  const [more, setMore] = useState(false)
  const [alias] = useDebouncedValue(form.alias.trim(), 250)
  const free = useApi<{ available: boolean; reason: string }>(alias ? `/api/links/alias?alias=${encodeURIComponent(alias)}` : null)
  const set = (change: Partial<typeof empty>) => setForm((before) => ({ ...before, ...change }))
  const make = useAction(async () => {
    const body: Record<string, unknown> = { url: form.url.trim() }
    if (form.alias.trim()) body.alias = form.alias.trim()
    if (form.title) body.title = form.title
    if (form.tags.length) body.tags = form.tags
    if (form.valid_until) body.valid_until = new Date(form.valid_until).toISOString()
    if (form.max_visits) body.max_visits = Number(form.max_visits)
    if (form.password) body.password = form.password
    const utm = Object.entries(form.utm).filter(([, value]) => value)
    if (utm.length) body.utm = Object.fromEntries(utm)
    const link = await api<Link>("/api/links/links", { method: "POST", body })
    setForm(empty)
    free.reload()
    onMade()
    return link
  })
  const submit = (event: FormEvent) => {
    event.preventDefault()
    void make.run()
  }
  const hint = !alias || !free.data ? undefined : free.data.available ? "free" : free.data.reason || "taken"
  return (
    <Panel title="Shorten">
      <form onSubmit={submit}>
        <Group align="flex-start" gap="sm">
          <TextInput
            label="Address"
            type="text"
            inputMode="url"
            placeholder="https://example.org/a/long/path"
            value={form.url}
            onChange={(event) => set({ url: event.currentTarget.value })}
            style={{ flex: "1 1 280px" }}
            required
          />
          <TextInput
            label="Alias"
            placeholder="made for you"
            value={form.alias}
            onChange={(event) => set({ alias: event.currentTarget.value })}
            description={hint && <span data-testid="alias">{hint}</span>}
            inputWrapperOrder={["label", "input", "description"]}
            error={free.data?.available === false && !!alias}
            w={180}
          />
          <Button type="submit" loading={make.busy} mt={25}>
            Shorten
          </Button>
        </Group>
        <Button variant="subtle" size="compact-sm" mt="xs" onClick={() => setMore(!more)} aria-expanded={more}>
          {more ? "Fewer options" : "More options"}
        </Button>
        <Collapse expanded={more}>
          <Group align="flex-end" gap="sm" mt="xs">
            <TextInput label="Title" value={form.title} onChange={(event) => set({ title: event.currentTarget.value })} />
            <TagsInput label="Tags" value={form.tags} onChange={(tags) => set({ tags })} miw={180} />
            <TextInput label="Ends" type="datetime-local" value={form.valid_until} onChange={(event) => set({ valid_until: event.currentTarget.value })} />
            <NumberInput label="Visits at most" value={form.max_visits} onChange={(max_visits) => set({ max_visits })} min={1} w={130} />
            <PasswordInput label="Password" value={form.password} onChange={(event) => set({ password: event.currentTarget.value })} autoComplete="off" w={160} />
          </Group>
          <Group align="flex-end" gap="sm" mt="xs">
            {campaign.map((name) => (
              <TextInput key={name} label={`utm_${name}`} value={form.utm[name] ?? ""} onChange={(event) => set({ utm: { ...form.utm, [name]: event.currentTarget.value } })} w={130} />
            ))}
          </Group>
        </Collapse>
      </form>
      <Told problem={make.error} />
      {make.result && (
        <Stack gap={2} mt="md" data-testid="made">
          <Copyable value={make.result.short_url} />
          <Text size="xs" c="dimmed">
            leads to <Anchor href={make.result.url} target="_blank" rel="noreferrer" size="xs">{make.result.url}</Anchor>
          </Text>
        </Stack>
      )}
    </Panel>
  )
}
