import { Code, Stack, Text, TextInput, Tooltip } from "@mantine/core"

/** A condition on JSON values, answered by the server; what can be written appears while one writes. */
export function Where({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  return (
    <Tooltip
      events={{ hover: true, focus: true, touch: false }}
      position="top-start"
      multiline
      maw={340}
      label={
        <Stack gap={2}>
          <Text size="xs">Paths into the value as JSON, compared with texts in quotes, numbers, true, false or null:</Text>
          <Code>user.country = "AT" and items[0].price &gt; 100</Code>
          <Text size="xs">= != &lt; &lt;= &gt; &gt;=, ~ for contains; and, or, not, brackets.</Text>
          <Text size="xs">Also $key, $value, $header.NAME, $offset, $partition, $timestamp.</Text>
        </Stack>
      }
    >
      <TextInput
        label="Only where"
        placeholder={'status = "paid" and amount > 100'}
        value={value}
        onChange={(event) => onChange(event.currentTarget.value)}
        classNames={{ input: "mono" }}
        style={{ flex: "1 1 220px" }}
        spellCheck={false}
        autoComplete="off"
      />
    </Tooltip>
  )
}
