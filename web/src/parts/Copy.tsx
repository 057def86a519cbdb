import { ActionIcon, Box, CopyButton, Group, Text, Tooltip } from "@mantine/core"
import { IconCheck, IconCopy } from "@tabler/icons-react"

export function Copy({ value, label = "Copy" }: { value: string; label?: string }) {
  return (
    <CopyButton value={value} timeout={1500}>
      {({ copied, copy }) => (
        <Tooltip label={copied ? "Copied" : label}>
          <ActionIcon variant="subtle" color={copied ? "teal" : "gray"} onClick={copy} aria-label={label}>
            {copied ? <IconCheck size={16} /> : <IconCopy size={16} />}
          </ActionIcon>
        </Tooltip>
      )}
    </CopyButton>
  )
}

/** One value in fixed-width letters with a button that copies it. */
export function Copyable({ value, label }: { value: string; label?: string }) {
  return (
    <Group gap={4} wrap="nowrap">
      <Text span className="mono" size="sm">
        {value}
      </Text>
      <Copy value={value} label={label ?? `Copy ${value}`} />
    </Group>
  )
}

/** Code to paste, with a button that copies all of it. */
export function Snippet({ code, label }: { code: string; label: string }) {
  return (
    <Box pos="relative">
      <Box pos="absolute" top={6} right={6} bg="light-dark(var(--mantine-color-gray-1), var(--mantine-color-dark-8))">
        <Copy value={code} label={`Copy ${label}`} />
      </Box>
      <Box
        component="pre"
        tabIndex={0}
        aria-label={label}
        className="mono"
        m={0}
        p="sm"
        pr={44}
        fz="sm"
        style={{
          overflowX: "auto",
          overflowWrap: "normal",
          borderRadius: "var(--mantine-radius-md)",
          background: "light-dark(var(--mantine-color-gray-1), var(--mantine-color-dark-8))",
        }}
      >
        {code}
      </Box>
    </Box>
  )
}
