import { ActionIcon, Button, FileButton, Group, Progress, Stack, Text } from "@mantine/core"
import { IconUpload, IconX } from "@tabler/icons-react"
import { type DragEvent, useRef, useState } from "react"
import { Problem } from "../../api"
import { size } from "./types"
import { upload } from "./upload"

type Job = { id: number; name: string; total: number; sent: number; problem?: string; stop: () => void }

/** Where files are dropped; each shows how far it has come. */
export function Uploads({ bucket, prefix, onDone }: { bucket: string; prefix: string; onDone: () => void }) {
  const [jobs, setJobs] = useState<Job[]>([])
  const [over, setOver] = useState(false)
  const next = useRef(0)
  const change = (id: number, changes: Partial<Job>) => setJobs((all) => all.map((job) => (job.id === id ? { ...job, ...changes } : job)))
  const start = async (file: File) => {
    const id = next.current++
    const stopper = new AbortController()
    setJobs((all) => [...all.filter((job) => job.name !== file.name || !job.problem), { id, name: file.name, total: file.size, sent: 0, stop: () => stopper.abort() }])
    try {
      await upload(bucket, prefix + file.name, file, stopper.signal, (bytes) => change(id, { sent: bytes }))
      setJobs((all) => all.filter((job) => job.id !== id))
      onDone()
    } catch (error) {
      if (!(error instanceof Problem)) throw error
      change(id, { problem: error.message })
    }
  }
  const all = async (files: File[]) => {
    for (const file of files) await start(file)
  }
  const drop = (event: DragEvent) => {
    event.preventDefault()
    setOver(false)
    void all([...event.dataTransfer.files])
  }
  return (
    <Stack
      gap="xs"
      p="sm"
      data-testid="drop"
      onDragOver={(event) => (event.preventDefault(), setOver(true))}
      onDragLeave={() => setOver(false)}
      onDrop={drop}
      style={{
        border: `1px dashed ${over ? "var(--mantine-primary-color-filled)" : "var(--mantine-color-default-border)"}`,
        borderRadius: "var(--mantine-radius-md)",
      }}
    >
      <Group justify="space-between">
        <Text size="sm" c="dimmed">
          Drop files here{prefix && `, into ${prefix}`}. They go straight to the S3 endpoint; large ones in parts that can be gone on with.
        </Text>
        <FileButton onChange={(files) => void all(files)} multiple inputProps={{ "aria-label": "Files to upload" }}>
          {(props) => (
            <Button {...props} size="xs" variant="default" leftSection={<IconUpload size={14} />}>
              Choose
            </Button>
          )}
        </FileButton>
      </Group>
      {jobs.map((job) => (
        <Group key={job.id} gap="xs" wrap="nowrap">
          <Text size="xs" className="mono" style={{ flex: "0 1 220px", overflowWrap: "anywhere" }}>
            {job.name}
          </Text>
          {job.problem ? (
            <Text size="xs" c="red" role="alert" style={{ flex: 1 }}>
              {job.problem}
            </Text>
          ) : (
            <Progress value={job.total ? (100 * job.sent) / job.total : 100} style={{ flex: 1 }} aria-label={`Upload of ${job.name}`} />
          )}
          <Text size="xs" c="dimmed" w={130} ta="right">
            {size(job.sent)} of {size(job.total)}
          </Text>
          <ActionIcon
            size="sm"
            variant="subtle"
            color="gray"
            aria-label={`Stop ${job.name}`}
            onClick={() => (job.problem ? setJobs((list) => list.filter((one) => one.id !== job.id)) : job.stop())}
          >
            <IconX size={14} />
          </ActionIcon>
        </Group>
      ))}
    </Stack>
  )
}
