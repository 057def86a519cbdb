import { Anchor, Badge, Button, Checkbox, Group, Table, TagsInput, Text, TextInput } from "@mantine/core"
import { useDebouncedValue } from "@mantine/hooks"
import { useEffect, useState } from "react"
import { api } from "../../api"
import { Copy } from "../../parts/Copy"
import { Panel } from "../../parts/Panel"
import { Empty, Told } from "../../parts/Told"
import { many } from "../../text"
import { useAction, useApi } from "../../use"
import type { Link, Page } from "./types"

/** One's links, newest first: found by any word, edited many at a time. */
export function LinkTable({ version, open }: { version: number; open: (id: string) => void }) {
  const [query, setQuery] = useState("")
  const [wanted] = useDebouncedValue(query, 250)
  const [cursors, setCursors] = useState<string[]>([])
  const [chosen, setChosen] = useState<string[]>([])
  const [tags, setTags] = useState<string[]>([])
  const cursor = cursors.at(-1)
  const path = `/api/links/links?limit=20&q=${encodeURIComponent(wanted)}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`
  const { data, error, reload } = useApi<Page<Link>>(path, 5000, version)
  useEffect(() => setCursors([]), [wanted])
  const all = useAction(async (change: (link: Link) => Promise<unknown>) => {
    for (const link of data?.items.filter((one) => chosen.includes(one.id)) ?? []) await change(link)
    setChosen([])
    setTags([])
    reload()
  })
  const patch = (body: (link: Link) => Record<string, unknown>) =>
    all.run((link) => api(`/api/links/links/${link.id}`, { method: "PATCH", body: body(link) }))
  const items = data?.items ?? []
  return (
    <Panel
      title="Links"
      right={<TextInput size="xs" type="search" aria-label="Find links" placeholder="find" value={query} onChange={(event) => setQuery(event.currentTarget.value)} />}
    >
      <Told problem={error ?? all.error} />
      {data && items.length === 0 && <Empty>{wanted ? "No link has that." : "There are none yet. Shorten the first one above."}</Empty>}
      {items.length > 0 && (
        <Table.ScrollContainer minWidth={640}>
          <Table data-testid="links" verticalSpacing="xs">
            <Table.Thead>
              <Table.Tr>
                <Table.Th w={32}>
                  <Checkbox
                    aria-label="Choose all"
                    checked={chosen.length === items.length}
                    indeterminate={chosen.length > 0 && chosen.length < items.length}
                    onChange={(event) => setChosen(event.currentTarget.checked ? items.map((one) => one.id) : [])}
                  />
                </Table.Th>
                <Table.Th>Short</Table.Th>
                <Table.Th>Leads to</Table.Th>
                <Table.Th ta="right">Clicks</Table.Th>
                <Table.Th>Made</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {items.map((one) => (
                <Table.Tr key={one.id}>
                  <Table.Td>
                    <Checkbox
                      aria-label={`Choose ${one.code}`}
                      checked={chosen.includes(one.id)}
                      onChange={(event) => {
                        const { checked } = event.currentTarget
                        setChosen((before) => (checked ? [...before, one.id] : before.filter((id) => id !== one.id)))
                      }}
                    />
                  </Table.Td>
                  <Table.Td>
                    <Group gap={4} wrap="nowrap">
                      <Anchor component="button" type="button" onClick={() => open(one.id)} fw={600}>
                        {one.code}
                      </Anchor>
                      <Copy value={one.short_url} label={`Copy ${one.code}`} />
                    </Group>
                  </Table.Td>
                  <Table.Td maw={360}>
                    <Text size="sm" lineClamp={1}>
                      {one.title || one.url}
                    </Text>
                    <Group gap={4}>
                      {one.tags.map((tag) => (
                        <Badge key={tag} size="xs" variant="default" tt="none">
                          {tag}
                        </Badge>
                      ))}
                      {one.has_password && <Badge size="xs" variant="light">password</Badge>}
                      {one.rules.length > 0 && <Badge size="xs" variant="light">{many(one.rules.length, "rule")}</Badge>}
                      {one.archived && <Badge size="xs" color="gray">archived</Badge>}
                      {one.visits_left !== null && <Badge size="xs" variant="light">{many(one.visits_left, "visit")} left</Badge>}
                    </Group>
                  </Table.Td>
                  <Table.Td ta="right">
                    {one.clicks.toLocaleString()}
                    {one.bots > 0 && (
                      <Text size="xs" c="dimmed">
                        {many(one.bots, "bot")}
                      </Text>
                    )}
                  </Table.Td>
                  <Table.Td>{new Date(one.created_at).toLocaleDateString()}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Table.ScrollContainer>
      )}
      <Group justify="space-between" mt="xs">
        <Group gap="xs">
          {chosen.length > 0 && (
            <>
              <Text size="sm">{chosen.length} chosen</Text>
              <TagsInput size="xs" aria-label="Tags to add" placeholder="tags" value={tags} onChange={setTags} w={160} />
              <Button size="xs" variant="default" disabled={!tags.length} loading={all.busy} onClick={() => patch((link) => ({ tags: [...new Set([...link.tags, ...tags])] }))}>
                Add tags
              </Button>
              <Button size="xs" variant="default" loading={all.busy} onClick={() => patch((link) => ({ archived: !link.archived }))}>
                Archive or bring back
              </Button>
            </>
          )}
        </Group>
        <Group gap="xs">
          {cursors.length > 0 && (
            <Button size="xs" variant="default" onClick={() => setCursors((before) => before.slice(0, -1))}>
              Newer
            </Button>
          )}
          <Button size="xs" variant="default" disabled={!data?.next} onClick={() => data?.next && setCursors((before) => [...before, data.next!])}>
            Older
          </Button>
        </Group>
      </Group>
    </Panel>
  )
}
