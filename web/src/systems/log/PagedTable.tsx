import { Button, Group, Table } from "@mantine/core"
import { type ReactNode, useEffect, useState } from "react"
import { Empty, Told } from "../../parts/Told"
import { useApi } from "../../use"
import type { Page } from "./types"

type Props<T> = {
  /** Of the listing, with its query but without the cursor. */
  path: string
  everyMs: number
  columns: { title?: string; right?: boolean }[]
  /** The cells of an item; `reload` looks again at once. */
  row: (item: T, reload: () => void) => ReactNode
  keyOf: (item: T) => string
  empty: ReactNode
  testId: string
  minWidth: number
  /** Beside the buttons of the pages. */
  footer?: ReactNode
}

/** A listing that comes in pages: it looks again every few seconds, and goes on and back. Another path begins at its first page. */
export function PagedTable<T>({ path, everyMs, columns, row, keyOf, empty, testId, minWidth, footer }: Props<T>) {
  const [cursors, setCursors] = useState<string[]>([])
  useEffect(() => setCursors([]), [path])
  const cursor = cursors.at(-1)
  const { data, error, reload } = useApi<Page<T>>(`${path}${cursor ? `&cursor=${cursor}` : ""}`, everyMs)
  return (
    <>
      <Told problem={error} />
      {data?.items.length === 0 && <Empty>{empty}</Empty>}
      {!!data?.items.length && (
        <Table.ScrollContainer minWidth={minWidth}>
          <Table data-testid={testId} verticalSpacing="xs">
            <Table.Thead>
              <Table.Tr>
                {columns.map((one, at) => (
                  <Table.Th key={at} ta={one.right ? "right" : undefined}>
                    {one.title}
                  </Table.Th>
                ))}
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {data.items.map((item) => (
                <Table.Tr key={keyOf(item)}>{row(item, reload)}</Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Table.ScrollContainer>
      )}
      <Group justify="space-between" mt="xs">
        <div>{footer}</div>
        <Group gap="xs">
          {cursors.length > 0 && (
            <Button size="xs" variant="default" onClick={() => setCursors((before) => before.slice(0, -1))}>
              Back
            </Button>
          )}
          {data?.next && (
            <Button size="xs" variant="default" onClick={() => setCursors((before) => [...before, data.next!])}>
              More
            </Button>
          )}
        </Group>
      </Group>
    </>
  )
}
