import { Alert, Code, Text } from "@mantine/core"
import { IconAlertTriangle } from "@tabler/icons-react"
import type { ReactNode } from "react"
import type { Problem } from "../api"

/** A problem as the server told it; nothing where there is none. */
export function Told({ problem }: { problem: Problem | undefined }) {
  if (!problem) return null
  return (
    <Alert color="red" role="alert" icon={<IconAlertTriangle size={18} />} title={problem.title} my="xs">
      <Text size="sm">{problem.detail}</Text>
      {problem.field && (
        <Text size="xs" c="dimmed" mt={4}>
          field <Code>{problem.field}</Code>
        </Text>
      )}
    </Alert>
  )
}

/** What stands where there is nothing yet, saying how to change that. */
export function Empty({ children }: { children: ReactNode }) {
  return (
    <Text c="dimmed" ta="center" py="lg" size="sm">
      {children}
    </Text>
  )
}
