import { Badge, Button, Card, Group, Progress, SimpleGrid, Stack, Text } from "@mantine/core"
import { api } from "../../api"
import { Panel } from "../../parts/Panel"
import { Told } from "../../parts/Told"
import { useAction, useApi } from "../../use"
import { type Disk, type Heal, size, type Usage, when } from "./types"

const colors: Record<string, string> = { live: "teal", draining: "yellow", lost: "red" }

/** Every directory that stands for a disk, by zone: what it holds, what waits to be healed, and a scrub on demand. */
export function Disks() {
  const disks = useApi<Disk[]>("/api/objects/disks", 3000)
  const heal = useApi<Heal>("/api/objects/heal", 3000)
  const usage = useApi<Usage>("/api/objects/usage", 10_000)
  const act = useAction(async (path: string) => {
    await api(path, { method: "POST" })
    disks.reload()
    heal.reload()
  })
  const scrub = useAction(() => api<{ shards: number; bad: number; ended_at: string | null }>("/api/objects/scrub", { method: "POST" }))
  const zones = [...new Set(disks.data?.map((disk) => disk.zone))]
  return (
    <Stack>
      <Panel
        title="Disks"
        hint={
          usage.data &&
          `${size(usage.data.live_bytes)} of objects in ${usage.data.stripes.toLocaleString()} stripes; ${size(usage.data.used_bytes)} on the disks, parity and dead bytes included`
        }
        right={
          <Group gap="xs">
            <Button size="xs" variant="default" loading={act.busy} onClick={() => act.run("/api/objects/heal")}>
              Heal now
            </Button>
            <Button size="xs" variant="default" loading={scrub.busy} onClick={() => scrub.run()}>
              Scrub
            </Button>
          </Group>
        }
      >
        <Told problem={disks.error ?? heal.error ?? act.error ?? scrub.error} />
        {heal.data && (
          <Text size="sm" mb="xs" data-testid="heal">
            {heal.data.waiting ? `${heal.data.waiting.toLocaleString()} stripes wait to be healed` : "Everything has all of its shards"}
            {heal.data.degraded_reads > 0 && `; ${heal.data.degraded_reads.toLocaleString()} reads needed parity`}
            {heal.data.healed > 0 && `; ${heal.data.healed.toLocaleString()} were healed`}
            {heal.data.lost > 0 && (
              <Text span c="red">
                ; {heal.data.lost.toLocaleString()} are beyond repair
              </Text>
            )}
            .
          </Text>
        )}
        {scrub.result && (
          <Text size="sm" mb="xs" data-testid="scrubbed">
            {scrub.result.shards.toLocaleString()} shards read again, {scrub.result.bad.toLocaleString()} bad
            {scrub.result.ended_at && `, ${when(scrub.result.ended_at)}`}.
          </Text>
        )}
        {zones.map((zone) => (
          <Stack key={zone} gap="xs" mb="sm">
            {zones.length > 1 && (
              <Text size="sm" fw={600}>
                {zone || "no zone"}
              </Text>
            )}
            <SimpleGrid cols={{ base: 1, sm: 2, lg: 3 }} data-testid="disks">
              {disks.data
                ?.filter((disk) => disk.zone === zone)
                .map((disk) => (
                  <Card key={disk.id} withBorder padding="sm">
                    <Group justify="space-between" wrap="nowrap">
                      <Text size="sm" fw={600} truncate>
                        {disk.directory.split("/").at(-1)}
                      </Text>
                      <Badge color={colors[disk.state] ?? "gray"} style={{ flexShrink: 0 }}>{disk.state}</Badge>
                    </Group>
                    <Text size="xs" c="dimmed" className="mono" truncate title={disk.directory}>
                      {disk.directory}
                    </Text>
                    <Progress my={8} value={disk.total_bytes ? 100 - (100 * disk.free_bytes) / disk.total_bytes : 0} aria-label={`Fill of disk ${disk.id}`} />
                    <Group justify="space-between">
                      <Text size="xs" c="dimmed">
                        {size(disk.used_bytes)} here in {disk.segments.toLocaleString()} {disk.segments === 1 ? "segment" : "segments"}; {size(disk.free_bytes)} free
                      </Text>
                      {disk.state === "live" && (disks.data?.length ?? 0) > 1 && (
                        <Button size="compact-xs" variant="subtle" onClick={() => act.run(`/api/objects/disks/${disk.id}/drain`)}>
                          Drain
                        </Button>
                      )}
                    </Group>
                  </Card>
                ))}
            </SimpleGrid>
          </Stack>
        ))}
      </Panel>
    </Stack>
  )
}
