import { Anchor, Box, Breadcrumbs, Button, Group, Slider, Stack, Table, Text } from "@mantine/core"
import { useDebouncedValue } from "@mantine/hooks"
import { IconFile, IconFolder } from "@tabler/icons-react"
import { useEffect, useState } from "react"
import { Panel } from "../../parts/Panel"
import { Empty, Told } from "../../parts/Told"
import { useApi } from "../../use"
import { type Bucket, bucketPath, type Listing, size, when } from "./types"
import { Uploads } from "./Uploads"

/** So many places has the slider between a bucket's first moment and now. */
const STEPS = 200

type Props = { bucket: Bucket; prefix: string; go: (prefix: string) => void; open: (key: string) => void; version: number; changed: () => void }

/** A bucket as folders and files, now or at a moment in the past. */
export function Browser({ bucket, prefix, go, open, version, changed }: Props) {
  const [tokens, setTokens] = useState<string[]>([])
  const [place, setPlace] = useState(STEPS)
  const [moment, setMoment] = useState(0)
  const [chosen] = useDebouncedValue(moment, 300)
  useEffect(() => setTokens([]), [prefix, chosen])
  const token = tokens.at(-1)
  const asOf = chosen ? `&as_of=${chosen * 1000}` : ""
  const slide = (to: number) => {
    const created = Date.parse(bucket.created_at)
    setPlace(to)
    setMoment(to === STEPS ? 0 : Math.round(created + ((Date.now() - created) * to) / STEPS))
  }
  const path = `${bucketPath(bucket.name)}/objects?delimiter=/&prefix=${encodeURIComponent(prefix)}${token ? `&token=${token}` : ""}${asOf}`
  const { data, error } = useApi<Listing>(path, undefined, version)
  const steps = prefix.split("/").slice(0, -1)
  return (
    <Panel
      title="Files"
      hint={
        <Breadcrumbs separator="/" separatorMargin={4} component="nav" aria-label="Folder">
          <Anchor component="button" type="button" size="sm" onClick={() => go("")}>
            {bucket.name}
          </Anchor>
          {steps.map((step, place) => (
            <Anchor key={place} component="button" type="button" size="sm" onClick={() => go(`${steps.slice(0, place + 1).join("/")}/`)}>
              {step || "(no name)"}
            </Anchor>
          ))}
        </Breadcrumbs>
      }
    >
      <Stack gap="xs">
        <Box display={moment ? "none" : undefined}>
          <Uploads bucket={bucket.name} prefix={prefix} onDone={changed} />
        </Box>
        {bucket.versioning !== "never" && (
          <Group gap="sm" wrap="nowrap">
            <Text size="sm" w={200} data-testid="moment">
              {moment ? `as of ${new Date(moment).toLocaleString()}` : "as of now"}
            </Text>
            <Slider style={{ flex: 1 }} min={0} max={STEPS} value={place} onChange={slide} label={null} thumbLabel="Moment, from the bucket's first to now" />
          </Group>
        )}
        <Told problem={error} />
        {data && !data.objects.length && !data.folders.length && <Empty>Nothing here{chosen ? " then" : " yet"}.</Empty>}
        {data && (data.objects.length > 0 || data.folders.length > 0) && (
          <Table.ScrollContainer minWidth={420}>
            <Table data-testid="files" verticalSpacing={6}>
              <Table.Thead>
                <Table.Tr>
                  <Table.Th>Name</Table.Th>
                  <Table.Th ta="right">Size</Table.Th>
                  <Table.Th>Changed</Table.Th>
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {data.folders.map((folder) => (
                  <Table.Tr key={folder}>
                    <Table.Td>
                      <Name icon={<IconFolder size={16} />} text={folder.slice(prefix.length)} act={() => go(folder)} />
                    </Table.Td>
                    <Table.Td />
                    <Table.Td />
                  </Table.Tr>
                ))}
                {data.objects.map((one) => (
                  <Table.Tr key={one.key}>
                    <Table.Td>
                      <Name icon={<IconFile size={16} />} text={one.key.slice(prefix.length) || "(no name)"} act={() => open(one.key)} />
                    </Table.Td>
                    <Table.Td ta="right">{size(one.size_bytes)}</Table.Td>
                    <Table.Td>{when(one.modified_at)}</Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          </Table.ScrollContainer>
        )}
        <Group justify="flex-end" gap="xs">
          {tokens.length > 0 && (
            <Button size="xs" variant="default" onClick={() => setTokens((before) => before.slice(0, -1))}>
              Back
            </Button>
          )}
          {data?.next && (
            <Button size="xs" variant="default" onClick={() => setTokens((before) => [...before, data.next!])}>
              More
            </Button>
          )}
        </Group>
      </Stack>
    </Panel>
  )
}

function Name({ icon, text, act }: { icon: React.ReactNode; text: string; act: () => void }) {
  return (
    <Group gap={6} wrap="nowrap">
      {icon}
      <Anchor component="button" type="button" ta="left" onClick={act} style={{ overflowWrap: "anywhere" }}>
        {text}
      </Anchor>
    </Group>
  )
}
