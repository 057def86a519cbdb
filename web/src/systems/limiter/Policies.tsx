import { ActionIcon, Badge, Button, Group, Table, Text, TextInput, Tooltip } from "@mantine/core"
import { IconTrash } from "@tabler/icons-react"
import { type FormEvent, useState } from "react"
import { api } from "../../api"
import { Panel } from "../../parts/Panel"
import { Empty, Told } from "../../parts/Told"
import { useAction, useApi } from "../../use"

type Policy = { name: string; text: string; source: string; fail: string; levels: { name: string; bound: number; window_s: number }[][] }

/** What is in force: policies of code, and those that are set here, on every node within a second. */
export function Policies() {
  const { data, error, reload } = useApi<Policy[]>("/api/limiter/policies", 5000)
  const [name, setName] = useState("")
  const [text, setText] = useState("")
  const put = useAction(async () => {
    await api(`/api/limiter/policies/${encodeURIComponent(name)}`, { method: "PUT", body: { text } })
    setName("")
    setText("")
    reload()
  })
  const drop = useAction(async (which: string) => {
    await api(`/api/limiter/policies/${encodeURIComponent(which)}`, { method: "DELETE" })
    reload()
  })
  const submit = (event: FormEvent) => {
    event.preventDefault()
    void put.run()
  }
  return (
    <Panel title="Policies" hint="Several limits with ; between them are charged together, or none of them.">
      <form onSubmit={submit}>
        <Group align="flex-end" gap="xs">
          <TextInput label="Name" value={name} onChange={(event) => setName(event.currentTarget.value)} w={120} required />
          <TextInput label="Limits" placeholder="100/minute; 10/s burst 20" value={text} onChange={(event) => setText(event.currentTarget.value)} classNames={{ input: "mono" }} style={{ flex: "1 1 200px" }} required />
          <Button type="submit" loading={put.busy}>
            Set
          </Button>
        </Group>
      </form>
      <Told problem={error ?? put.error ?? drop.error} />
      {data?.length === 0 && <Empty>There are none yet.</Empty>}
      {!!data?.length && (
        <Table data-testid="policies" mt="xs">
          <Table.Tbody>
            {data.map((one) => (
              <Table.Tr key={one.name}>
                <Table.Td fw={600}>{one.name}</Table.Td>
                <Table.Td>
                  <Text size="sm" className="mono">
                    {one.text}
                  </Text>
                  <Text size="xs" c="dimmed">
                    {one.levels.flat().map((limit) => `at most ${limit.bound.toLocaleString()} in any ${limit.window_s.toLocaleString()} s`).join(", ")}
                  </Text>
                </Table.Td>
                <Table.Td ta="right">
                  {one.source === "set" ? (
                    <Tooltip label="Take it back">
                      <ActionIcon variant="subtle" color="red" aria-label={`Delete ${one.name}`} onClick={() => drop.run(one.name)}>
                        <IconTrash size={16} />
                      </ActionIcon>
                    </Tooltip>
                  ) : (
                    <Badge variant="default" size="xs">
                      code
                    </Badge>
                  )}
                </Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      )}
    </Panel>
  )
}
