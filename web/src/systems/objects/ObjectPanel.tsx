import { Badge, Box, Button, Group, Image, NativeSelect, Stack, Table, Text } from "@mantine/core"
import { IconDownload, IconLink, IconTrash } from "@tabler/icons-react"
import { useEffect, useState } from "react"
import { api } from "../../api"
import { Copyable } from "../../parts/Copy"
import { Panel } from "../../parts/Panel"
import { Told } from "../../parts/Told"
import { useAction, useApi } from "../../use"
import { type Bucket, bucketPath, objectPath, size, type VersionLine, when } from "./types"

const PREVIEW_BYTES_MAX = 4 << 20
const TEXT_LETTERS_MAX = 20_000

/** One object: a look at it, a link to share, its versions with what locks them. */
export function ObjectPanel({ bucket, name, turn, changed, close }: { bucket: Bucket; name: string; turn: number; changed: () => void; close: () => void }) {
  const { data, error, reload } = useApi<VersionLine[]>(`${objectPath(bucket.name, name)}/versions`, undefined, turn)
  const [hours, setHours] = useState("1")
  const versioned = bucket.versioning !== "never"
  const share = useAction(() =>
    api<{ url: string; expires_at: string }>(`${bucketPath(bucket.name)}/presign`, { method: "POST", body: { key: name, expires_s: Number(hours) * 3600 } }),
  )
  const act = useAction(async (work: () => Promise<unknown>) => {
    await work()
    reload()
    changed()
  })
  const remove = (version?: string) =>
    ((!version && versioned) || confirm(`${version ? "This version of " : ""}${name} will be gone for good. Delete it?`)) &&
    act.run(() => api(`${objectPath(bucket.name, name)}${version ? `?version=${version}` : ""}`, { method: "DELETE" }))
  const restore = (version: string) => act.run(() => api(`${bucketPath(bucket.name)}/restore`, { method: "POST", body: { key: name, version } }))
  const latest = data?.find((one) => one.latest)
  return (
    <Panel
      title={name}
      hint={latest && (latest.marker ? "deleted; its versions are still there" : `${size(latest.size_bytes)}, ${when(latest.modified_at)}`)}
      right={
        <Button size="xs" variant="default" onClick={close}>
          Close
        </Button>
      }
    >
      <Stack gap="sm">
        <Told problem={error ?? share.error ?? act.error} />
        {latest && !latest.marker && (
          <>
            <Preview key={latest.version + latest.etag} bucket={bucket.name} name={name} bytes={latest.size_bytes} />
            <Group gap="xs" align="flex-end">
              <Button size="xs" component="a" href={objectPath(bucket.name, name)} download={name.split("/").at(-1)} leftSection={<IconDownload size={14} />}>
                Download
              </Button>
              <NativeSelect
                size="xs"
                aria-label="The link ends after"
                value={hours}
                onChange={(event) => setHours(event.currentTarget.value)}
                data={[
                  { value: "1", label: "an hour" },
                  { value: "24", label: "a day" },
                  { value: "168", label: "a week" },
                ]}
              />
              <Button size="xs" variant="default" leftSection={<IconLink size={14} />} loading={share.busy} onClick={() => share.run()}>
                Share
              </Button>
              <Button size="xs" variant="subtle" color="red" leftSection={<IconTrash size={14} />} loading={act.busy} onClick={() => remove()}>
                Delete
              </Button>
            </Group>
          </>
        )}
        {share.result && (
          <Box data-testid="link" style={{ overflowX: "auto" }}>
            <Copyable value={share.result.url} label="Copy the link" />
            <Text size="xs" c="dimmed">
              Whoever has it can read this until {when(share.result.expires_at)}.
            </Text>
          </Box>
        )}
        {versioned && data && (
          <Table.ScrollContainer minWidth={420}>
            <Table data-testid="versions" verticalSpacing={4}>
              <Table.Tbody>
                {data.map((one) => (
                  <Table.Tr key={one.version}>
                    <Table.Td>
                      {when(one.modified_at)}{" "}
                      {one.latest && (
                        <Badge size="xs" variant="default">
                          newest
                        </Badge>
                      )}
                    </Table.Td>
                    <Table.Td style={{ whiteSpace: "nowrap" }}>{one.marker ? "deleted" : size(one.size_bytes)}</Table.Td>
                    <Table.Td>
                      {one.locked && (
                        <Badge size="sm" color="yellow" title={one.locked_until ? `until ${when(one.locked_until)}` : undefined}>
                          {one.locked === "hold" ? "legal hold" : `locked: ${one.locked}`}
                        </Badge>
                      )}
                    </Table.Td>
                    <Table.Td ta="right" style={{ whiteSpace: "nowrap" }}>
                      {!one.marker && !one.latest && (
                        <Button size="compact-xs" variant="subtle" onClick={() => restore(one.version)}>
                          Restore
                        </Button>
                      )}
                      <Button size="compact-xs" variant="subtle" color="red" disabled={one.locked !== ""} onClick={() => remove(one.version)}>
                        Remove
                      </Button>
                    </Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          </Table.ScrollContainer>
        )}
      </Stack>
    </Panel>
  )
}

/** Pictures and text as they are, everything else by its name only: nothing of an object is ever run. */
function Preview({ bucket, name, bytes }: { bucket: string; name: string; bytes: number }) {
  const [shown, setShown] = useState<{ image?: string; text?: string }>({})
  useEffect(() => {
    if (bytes > PREVIEW_BYTES_MAX) return
    const stop = new AbortController()
    let url = ""
    const load = async () => {
      const answer = await fetch(objectPath(bucket, name), { signal: stop.signal })
      if (!answer.ok) return
      const type = answer.headers.get("x-object-type") ?? ""
      if (/^image\/(png|jpeg|gif|webp|avif)$/.test(type)) {
        url = URL.createObjectURL(new Blob([await answer.arrayBuffer()], { type }))
        setShown({ image: url })
      } else if (/^(text\/|application\/(json|xml|toml|yaml))/.test(type)) {
        setShown({ text: (await answer.text()).slice(0, TEXT_LETTERS_MAX) })
      }
    }
    load().catch((error: Error) => {
      if (error.name !== "AbortError") setShown({})
    })
    return () => {
      stop.abort()
      if (url) URL.revokeObjectURL(url)
    }
  }, [bucket, name, bytes])
  if (shown.image) return <Image src={shown.image} alt={name} mah={360} fit="contain" w="auto" />
  if (shown.text === undefined) return null
  return (
    <Box component="pre" className="mono" fz="xs" m={0} p="xs" data-testid="preview" tabIndex={0} style={{ maxHeight: 300, overflow: "auto", borderRadius: "var(--mantine-radius-md)", background: "light-dark(var(--mantine-color-gray-1), var(--mantine-color-dark-8))" }}>
      {shown.text}
    </Box>
  )
}
