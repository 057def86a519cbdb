import { ActionIcon, Badge, Box, Group, SegmentedControl, Stack, Table, Text } from "@mantine/core"
import { IconChevronDown, IconChevronRight } from "@tabler/icons-react"
import { Fragment, useState } from "react"
import { Snippet } from "../../parts/Copy"
import { type Decoding, decodings, line, whole } from "./bytes"
import type { LogRecord } from "./types"

export function DecodingControl({ value, onChange }: { value: Decoding; onChange: (value: Decoding) => void }) {
  return <SegmentedControl size="xs" data={decodings} value={value} onChange={(one) => onChange(one as Decoding)} aria-label="Show bytes as" />
}

/** Records in a table; each opens to the whole of it. */
export function Records({ records, decoding, testId }: { records: LogRecord[]; decoding: Decoding; testId: string }) {
  const [opened, setOpened] = useState<string>()
  return (
    <Table.ScrollContainer minWidth={320}>
      <Table data-testid={testId} verticalSpacing={4} layout="fixed">
        <Table.Thead>
          <Table.Tr>
            <Table.Th w={40} />
            <Table.Th w={90}>At</Table.Th>
            <Table.Th w={125} visibleFrom="sm">
              Time
            </Table.Th>
            <Table.Th w="20%">Key</Table.Th>
            <Table.Th>Value</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {records.map((one) => {
            const at = `${one.partition}:${one.offset}`
            const open = opened === at
            const value = line({ text: one.value, base64: one.value_base64 }, decoding)
            return (
              <Fragment key={at}>
                <Table.Tr>
                  <Table.Td>
                    <ActionIcon variant="subtle" color="gray" size="sm" aria-expanded={open} aria-label={`Record ${at}`} onClick={() => setOpened(open ? undefined : at)}>
                      {open ? <IconChevronDown size={16} /> : <IconChevronRight size={16} />}
                    </ActionIcon>
                  </Table.Td>
                  <Table.Td>
                    <Text size="sm" className="mono">
                      {at}
                    </Text>
                    <Text size="xs" c="dimmed" hiddenFrom="sm">
                      {moment(one.timestamp_ms)}
                    </Text>
                  </Table.Td>
                  <Table.Td visibleFrom="sm">
                    <Text size="sm">{moment(one.timestamp_ms)}</Text>
                  </Table.Td>
                  <Table.Td>
                    <Text size="sm" className="mono" truncate>
                      {line({ text: one.key, base64: one.key_base64 }, decoding === "json" ? "auto" : decoding) ?? <Text span c="dimmed">none</Text>}
                    </Text>
                  </Table.Td>
                  <Table.Td>
                    {value === null ? (
                      <Badge variant="light" color="gray" size="sm">
                        tombstone
                      </Badge>
                    ) : (
                      <Text size="sm" className="mono" truncate>
                        {value}
                      </Text>
                    )}
                  </Table.Td>
                </Table.Tr>
                {open && (
                  <Table.Tr>
                    <Table.Td colSpan={5}>
                      <One record={one} decoding={decoding} />
                    </Table.Td>
                  </Table.Tr>
                )}
              </Fragment>
            )
          })}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  )
}

function One({ record, decoding }: { record: LogRecord; decoding: Decoding }) {
  const key = whole({ text: record.key, base64: record.key_base64 }, decoding)
  const value = whole({ text: record.value, base64: record.value_base64 }, decoding)
  return (
    <Stack gap="xs" pl={{ base: 0, sm: 40 }} data-testid="record">
      {key !== null && (
        <Box>
          <Text size="xs" c="dimmed">
            Key
          </Text>
          <Snippet label="the key" code={key} />
        </Box>
      )}
      {value !== null && (
        <Box>
          <Text size="xs" c="dimmed">
            Value
          </Text>
          <Snippet label="the value" code={value} />
          {record.cut_bytes !== undefined && (
            <Text size="xs" c="dimmed">
              {record.cut_bytes.toLocaleString()} bytes more; Browse has all of it.
            </Text>
          )}
        </Box>
      )}
      {record.headers.length > 0 && (
        <Group gap="xs">
          {record.headers.map((one, n) => (
            <Badge key={n} variant="default" tt="none">
              {one.name}: {line({ text: one.value, base64: one.value_base64 }, "auto") ?? "null"}
            </Badge>
          ))}
        </Group>
      )}
    </Stack>
  )
}

export function moment(ms: number): string {
  if (ms < 0) return "no time"
  const at = new Date(ms)
  const day = at.toDateString() === new Date().toDateString() ? "" : `${at.toLocaleDateString()} `
  return day + at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" })
}
