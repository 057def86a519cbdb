import { Button, Group, NumberInput, ScrollArea, Select, Stack, TextInput } from "@mantine/core"
import { type FormEvent, useState } from "react"
import { api } from "../../api"
import { Copy, Copyable } from "../../parts/Copy"
import { Panel } from "../../parts/Panel"
import { Told } from "../../parts/Told"
import { useAction } from "../../use"

const kinds = [
  { group: "128 bits", items: ["uuid7", "ulid", "typeid", "ksuid", "xid", "nanoid"] },
  { group: "64 bits", items: ["snowflake", "mainspring", "twitter", "discord", "instagram", "mastodon", "sonyflake", "js53"] },
]

/** Mints any kind; each id can be copied, or all at once. */
export function Mint() {
  const [kind, setKind] = useState("uuid7")
  const [count, setCount] = useState<string | number>(5)
  const [prefix, setPrefix] = useState("user")
  const mint = useAction(() =>
    api<{ ids: string[] }>("/api/ids", {
      method: "POST",
      body: { kind, count: Number(count), ...(kind === "typeid" ? { prefix } : {}) },
    }),
  )
  const submit = (event: FormEvent) => {
    event.preventDefault()
    void mint.run()
  }
  const ids = mint.result?.ids ?? []
  return (
    <Panel title="Mint" hint="Rising ids that no other process gets, without asking anyone.">
      <form onSubmit={submit}>
        <Group align="flex-end" gap="sm">
          <Select label="Kind" data={kinds} value={kind} onChange={(value) => setKind(value ?? "uuid7")} allowDeselect={false} w={150} />
          {kind === "typeid" && <TextInput label="Prefix" value={prefix} onChange={(event) => setPrefix(event.currentTarget.value)} w={120} />}
          <NumberInput label="How many" value={count} onChange={setCount} min={1} max={10_000} w={110} allowDecimal={false} />
          <Button type="submit" loading={mint.busy}>
            Mint
          </Button>
        </Group>
      </form>
      <Told problem={mint.error} />
      {ids.length > 0 && (
        <Stack gap={2} mt="md">
          <Group justify="space-between">
            <span className="quiet">{ids.length.toLocaleString()} ids</span>
            <Copy value={ids.join("\n")} label="Copy all" />
          </Group>
          <ScrollArea.Autosize mah={260} data-testid="minted">
            {ids.slice(0, 500).map((id) => (
              <Copyable key={id} value={id} />
            ))}
          </ScrollArea.Autosize>
        </Stack>
      )}
    </Panel>
  )
}
