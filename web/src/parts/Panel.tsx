import { Group, Paper, Text, Title } from "@mantine/core"
import type { ReactNode } from "react"

/** A titled part of a page: what it is for in one line, then what one can do. */
export function Panel(props: { title: string; hint?: ReactNode; right?: ReactNode; children: ReactNode; id?: string }) {
  return (
    <Paper component="section" withBorder p={{ base: "sm", sm: "md" }} id={props.id} aria-label={props.title}>
      <Group justify="space-between" align="flex-start" mb="sm" wrap="nowrap">
        <div>
          <Title order={3} size="h4">
            {props.title}
          </Title>
          {props.hint && (
            <Text size="sm" c="dimmed">
              {props.hint}
            </Text>
          )}
        </div>
        {props.right}
      </Group>
      {props.children}
    </Paper>
  )
}
