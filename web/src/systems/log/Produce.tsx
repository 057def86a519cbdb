import { ActionIcon, Button, Checkbox, Group, SegmentedControl, Select, Stack, Text, Textarea, TextInput } from "@mantine/core"
import { IconPlus, IconTrash } from "@tabler/icons-react"
import { type FormEvent, useState } from "react"
import { api } from "../../api"
import { Panel } from "../../parts/Panel"
import { Told } from "../../parts/Told"
import { useAction } from "../../use"

type Made = { positions: { partition: number; offset: number }[] }
type Kind = "text" | "lines" | "base64"

const kinds = [
  { value: "text", label: "One record" },
  { value: "lines", label: "One per line" },
  { value: "base64", label: "Base64" },
]
const MOST = 1000

/** Appends records, with a key of their own or each anywhere. */
export function Produce({ topic, partitions }: { topic: string; partitions: number }) {
  const [key, setKey] = useState("")
  const [value, setValue] = useState('{"status": "paid", "amount": 120}')
  const [kind, setKind] = useState<Kind>("text")
  const [partition, setPartition] = useState("")
  const [tombstone, setTombstone] = useState(false)
  const [headers, setHeaders] = useState<{ name: string; value: string }[]>([])
  const produce = useAction(async () => {
    const common = {
      ...(key ? { key } : {}),
      ...(partition ? { partition: Number(partition) } : {}),
      headers: headers.filter((one) => one.name),
    }
    const values = tombstone ? [{}] : kind === "lines" ? value.split("\n").filter(Boolean).map((one) => ({ value: one })) : [kind === "base64" ? { value_base64: value } : { value }]
    return api<Made>(`/api/log/topics/${topic}/records`, { method: "POST", body: { records: values.map((one) => ({ ...common, ...one })) } })
  })
  const submit = (event: FormEvent) => {
    event.preventDefault()
    void produce.run()
  }
  const lines = kind === "lines" ? value.split("\n").filter(Boolean).length : 1
  const made = produce.result?.positions
  return (
    <Panel title="Produce" hint="Durable when it is answered.">
      <form onSubmit={submit}>
        <Stack gap="xs">
          <Group gap="xs" align="flex-end">
            <TextInput label="Key" placeholder="none" value={key} onChange={(event) => setKey(event.currentTarget.value)} classNames={{ input: "mono" }} style={{ flex: "1 1 140px" }} />
            <Select label="Partition" data={[{ value: "", label: "by key" }, ...numbered(partitions)]} value={partition} onChange={(one) => setPartition(one ?? "")} allowDeselect={false} searchable={partitions > 20} w={110} />
          </Group>
          <Textarea
            label="Value"
            value={tombstone ? "" : value}
            onChange={(event) => setValue(event.currentTarget.value)}
            disabled={tombstone}
            classNames={{ input: "mono" }}
            autosize
            minRows={3}
            maxRows={12}
            spellCheck={false}
          />
          <SegmentedControl size="xs" data={kinds} value={kind} onChange={(one) => setKind(one as Kind)} aria-label="The value is" disabled={tombstone} style={{ alignSelf: "flex-start" }} />
          {headers.map((one, n) => (
            <Group key={n} gap="xs" wrap="nowrap">
              <TextInput aria-label={`Header ${n + 1}`} placeholder="header" value={one.name} onChange={(event) => setHeaders(replaced(headers, n, { ...one, name: event.currentTarget.value }))} style={{ flex: 1 }} />
              <TextInput aria-label={`Value of header ${n + 1}`} placeholder="value" value={one.value} onChange={(event) => setHeaders(replaced(headers, n, { ...one, value: event.currentTarget.value }))} style={{ flex: 1 }} />
              <ActionIcon variant="subtle" color="red" aria-label={`Remove header ${n + 1}`} onClick={() => setHeaders(headers.filter((_, at) => at !== n))}>
                <IconTrash size={16} />
              </ActionIcon>
            </Group>
          ))}
          <Group justify="space-between" gap="xs">
            <Group gap="sm">
              <Button size="compact-xs" variant="subtle" leftSection={<IconPlus size={14} />} onClick={() => setHeaders([...headers, { name: "", value: "" }])}>
                Header
              </Button>
              <Checkbox size="xs" label="Tombstone" checked={tombstone} onChange={(event) => setTombstone(event.currentTarget.checked)} />
            </Group>
            <Button type="submit" loading={produce.busy} disabled={lines > MOST}>
              {lines > 1 ? `Produce ${lines.toLocaleString()}` : "Produce"}
            </Button>
          </Group>
        </Stack>
      </form>
      <Told problem={produce.error} />
      {made && !produce.error && (
        <Text size="sm" mt="xs" data-testid="produced" aria-live="polite">
          {made.length === 1 ? `Partition ${made[0]!.partition}, offset ${made[0]!.offset.toLocaleString()}` : `${made.length.toLocaleString()} records, the last at ${made.at(-1)!.partition}:${made.at(-1)!.offset}`}
        </Text>
      )}
    </Panel>
  )
}

export function numbered(partitions: number): string[] {
  return Array.from({ length: partitions }, (_, n) => String(n))
}

function replaced<T>(list: T[], at: number, one: T): T[] {
  return list.map((before, n) => (n === at ? one : before))
}
