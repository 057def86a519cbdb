import { ActionIcon, Button, Group, NumberInput, Select, Stack, Switch, Table, Text, TextInput, Tooltip } from "@mantine/core"
import { IconArrowBackUp } from "@tabler/icons-react"
import { type FormEvent, useState } from "react"
import { api } from "../../api"
import { Panel } from "../../parts/Panel"
import { Told } from "../../parts/Told"
import { useAction } from "../../use"
import type { Topic } from "./types"

/** Every setting in force under Kafka's names, and the number of partitions, which only grows. */
export function Settings({ topic, onSaved }: { topic: Topic; onSaved: () => void }) {
  const [name, setName] = useState<string | null>("retention.ms")
  const [value, setValue] = useState("")
  const [partitions, setPartitions] = useState<number | string>(topic.partition_count)
  const [all, setAll] = useState(false)
  const change = useAction(async (body: Record<string, unknown>) => {
    await api(`/api/log/topics/${topic.name}`, { method: "PATCH", body })
    onSaved()
  })
  const set = (event: FormEvent) => {
    event.preventDefault()
    void change.run({ config: { [name!]: value } })
  }
  const grow = (event: FormEvent) => {
    event.preventDefault()
    void change.run({ partitions: Number(partitions) })
  }
  const common = ["cleanup.policy", "retention.ms", "retention.bytes", "segment.bytes", "max.message.bytes", "compression.type"]
  const shown = topic.settings.filter((one) => all || one.given || common.includes(one.name))
  const help = topic.settings.find((one) => one.name === name)?.help
  return (
    <Panel title="Settings" hint="Kafka's names and values.">
      {!topic.internal && (
        <Stack gap="xs" mb="sm">
          <form onSubmit={set}>
            <Group gap="xs" align="flex-end">
              <Select label="Setting" data={topic.settings.map((one) => one.name)} value={name} onChange={setName} searchable allowDeselect={false} w={260} />
              <TextInput label="Value" value={value} onChange={(event) => setValue(event.currentTarget.value)} classNames={{ input: "mono" }} style={{ flex: "1 1 140px" }} required />
              <Button type="submit" loading={change.busy} disabled={!name}>
                Set
              </Button>
            </Group>
            <Text size="xs" c="dimmed">
              {help}
            </Text>
          </form>
          <form onSubmit={grow}>
            <Group gap="xs" align="flex-end">
              <NumberInput label="Partitions" description="Keys may go to others from then on." value={partitions} onChange={setPartitions} min={topic.partition_count} max={100_000} w={260} />
              <Button type="submit" variant="default" loading={change.busy} disabled={Number(partitions) <= topic.partition_count}>
                Add
              </Button>
            </Group>
          </form>
          <Told problem={change.error} />
        </Stack>
      )}
      <Table.ScrollContainer minWidth={680}>
        <Table data-testid="settings" verticalSpacing={4}>
          <Table.Tbody>
            {shown.map((one) => (
              <Table.Tr key={one.name}>
                <Table.Td className="mono" fw={one.given ? 600 : undefined} style={{ whiteSpace: "nowrap" }}>
                  {one.name}
                </Table.Td>
                <Table.Td className="mono" maw={240}>
                  {one.value}
                </Table.Td>
                <Table.Td>
                  <Text size="xs" c="dimmed">
                    {one.help}
                  </Text>
                </Table.Td>
                <Table.Td w={40}>
                  {one.given && !topic.internal && (
                    <Tooltip label="Back to the default">
                      <ActionIcon variant="subtle" aria-label={`${one.name} back to its default`} onClick={() => change.run({ config: { [one.name]: null } })}>
                        <IconArrowBackUp size={16} />
                      </ActionIcon>
                    </Tooltip>
                  )}
                </Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
      <Switch size="xs" mt="xs" label="All of them" checked={all} onChange={(event) => setAll(event.currentTarget.checked)} />
    </Panel>
  )
}
