import { Badge, Group, SegmentedControl, Stack, Table, Text, TextInput, Tooltip } from "@mantine/core"
import { useDebouncedValue } from "@mantine/hooks"
import { useState } from "react"
import { Copyable } from "../../parts/Copy"
import { Panel } from "../../parts/Panel"
import { Empty, Told } from "../../parts/Told"
import { useApi } from "../../use"

type Field = { name: string; bits: number; value: string }
type IdView = {
  kind: string
  text: string
  bits: number
  time: string | null
  worker: number | null
  sequence: number | null
  fields: Field[]
  renderings: Record<string, string>
  minted_by: { holder: string; fence: number } | null
}

const colours: Record<string, string> = {
  time: "blue.6", worker: "grape.6", sequence: "teal.6", random: "gray.5", version: "orange.6", variant: "orange.4", counter: "teal.6",
}
const layouts = ["mainspring", "twitter", "discord", "instagram", "mastodon", "sonyflake", "js53"]

/** Any id taken apart: its bits by field, the instant they hold, who minted it, and its other notations. */
export function Read() {
  const [text, setText] = useState("")
  const [layout, setLayout] = useState("mainspring")
  const [wanted] = useDebouncedValue(text.trim(), 200)
  const { data, error } = useApi<IdView>(wanted ? `/api/ids/${encodeURIComponent(wanted)}?layout=${layout}` : null)
  const is64 = data?.bits === 64
  return (
    <Panel title="Read" hint="Paste any id: UUID, ULID, KSUID, XID, TypeID, NanoID, Snowflake in any notation.">
      <TextInput
        aria-label="An id"
        placeholder="01ARZ3NDEKTSV4RRFFQ69G5FAV"
        value={text}
        onChange={(event) => setText(event.currentTarget.value)}
        classNames={{ input: "mono" }}
        spellCheck={false}
      />
      {!wanted && <Empty>Paste one, or mint one beside this and paste that.</Empty>}
      {wanted && <Told problem={error} />}
      {wanted && data && !error && (
        <Stack gap="sm" mt="sm" data-testid="read">
          <Group gap="xs">
            <Badge variant="light">{data.kind}</Badge>
            <Text size="sm">{data.bits} bits</Text>
            {data.time && (
              <Text size="sm" fw={600}>
                {new Date(data.time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" })}
                <Text span c="dimmed" size="xs">
                  {" "}
                  {data.time}
                </Text>
              </Text>
            )}
          </Group>
          {is64 && (
            <SegmentedControl size="xs" data={layouts} value={layout} onChange={setLayout} aria-label="Layout" style={{ overflowX: "auto" }} />
          )}
          <Bits fields={data.fields} />
          {data.minted_by && (
            <Text size="sm">
              Minted by <b>{data.minted_by.holder}</b>, holder {data.minted_by.fence} of its worker id.
            </Text>
          )}
          <Table>
            <Table.Tbody>
              {Object.entries(data.renderings).map(([name, value]) => (
                <Table.Tr key={name}>
                  <Table.Td>{name}</Table.Td>
                  <Table.Td>
                    <Copyable value={value} label={`Copy as ${name}`} />
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Stack>
      )}
    </Panel>
  )
}

/** Each field as wide as its bits. */
function Bits({ fields }: { fields: Field[] }) {
  const colour = (name: string) => colours[name] ?? colours[name.split(/[ _]/)[0]!] ?? "cyan.7"
  return (
    <div>
      <div style={{ display: "flex", height: 30, borderRadius: 6, overflow: "hidden" }} role="img" aria-label={fields.map((one) => `${one.name} ${one.bits} bits`).join(", ")}>
        {fields.map((one) => (
          <Tooltip key={one.name} label={`${one.name}: ${one.value} in ${one.bits} bits`}>
            <div
              style={{
                flexGrow: one.bits,
                flexBasis: 0,
                minWidth: 4,
                background: `var(--mantine-color-${colour(one.name).replace(".", "-")})`,
                color: "white",
                fontSize: 12,
                lineHeight: "30px",
                textAlign: "center",
                overflow: "hidden",
                whiteSpace: "nowrap",
              }}
            >
              {one.bits > 6 ? one.name : ""}
            </div>
          </Tooltip>
        ))}
      </div>
      <Group gap="md" mt={6}>
        {fields.map((one) => (
          <Text key={one.name} size="xs" className="mono">
            <Text span c={colour(one.name)} inherit>
              ■
            </Text>{" "}
            {one.name} = {one.value}
          </Text>
        ))}
      </Group>
    </div>
  )
}
