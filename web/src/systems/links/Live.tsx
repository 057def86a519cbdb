import { Group, Table, Text } from "@mantine/core"
import { useEffect, useState } from "react"
import { live } from "../../api"
import { Panel } from "../../parts/Panel"
import { Empty } from "../../parts/Told"

type Click = { code: string; domain: string; at: string; bot: boolean; country: string; browser: string; os: string; device: string; referrer: string }
type Message = { clicks: Click[]; per_second: number }

/** Clicks as they come in. */
export function Live() {
  const [clicks, setClicks] = useState<Click[]>([])
  const [rate, setRate] = useState(0)
  const [open, setOpen] = useState(false)
  useEffect(
    () =>
      live<Message>(
        "/api/links/live",
        (message) => {
          setRate(message.per_second)
          if (message.clicks.length) setClicks((before) => [...message.clicks.reverse(), ...before].slice(0, 30))
        },
        setOpen,
      ),
    [],
  )
  return (
    <Panel title="Live" hint={open ? `${rate.toLocaleString()} clicks a second` : "connecting …"}>
      {clicks.length === 0 && <Empty>Open a short link, and its click appears here.</Empty>}
      {clicks.length > 0 && (
        <Table.ScrollContainer minWidth={520} mah={320}>
          <Table data-testid="live" verticalSpacing={4}>
            <Table.Tbody>
              {clicks.map((one, n) => (
                <Table.Tr key={`${one.at}${n}`}>
                  <Table.Td>{new Date(one.at).toLocaleTimeString()}</Table.Td>
                  <Table.Td fw={600}>{one.code}</Table.Td>
                  <Table.Td>
                    <Group gap="xs">
                      <Text size="sm">{one.country || "somewhere"}</Text>
                      <Text size="sm" c="dimmed">
                        {[one.browser, one.os, one.device].filter(Boolean).join(" · ")}
                        {one.bot && " · bot"}
                      </Text>
                    </Group>
                  </Table.Td>
                  <Table.Td>{one.referrer}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Table.ScrollContainer>
      )}
    </Panel>
  )
}
