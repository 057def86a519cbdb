import { Anchor, Badge, Button, Group, Switch, Table, TextInput } from "@mantine/core"
import { type FormEvent, useState } from "react"
import { api } from "../../api"
import { Panel } from "../../parts/Panel"
import { Empty, Told } from "../../parts/Told"
import { useSystems } from "../../shell/systems"
import { useAction, useApi } from "../../use"
import { type Bucket, when } from "./types"

export function Buckets({ open }: { open: (name: string) => void }) {
  const { data, error } = useApi<Bucket[]>("/api/objects/buckets", 5000)
  const door = useSystems().systems.find((one) => one.name === "objects")?.listeners.find((one) => one.name === "s3" && one.state !== "off")
  const [name, setName] = useState("")
  const [versioning, setVersioning] = useState(false)
  const [lock, setLock] = useState(false)
  const create = useAction(async () => {
    const made = await api<Bucket>("/api/objects/buckets", { method: "POST", body: { name, versioning, lock } })
    open(made.name)
  })
  const submit = (event: FormEvent) => {
    event.preventDefault()
    void create.run()
  }
  return (
    <Panel title="Buckets" hint={door ? `What S3 clients see at ${door.address}, to the byte.` : "Its door for S3 clients is off."}>
      <form onSubmit={submit}>
        <Group align="flex-end" gap="sm">
          <TextInput label="New bucket" placeholder="photos" value={name} onChange={(event) => setName(event.currentTarget.value)} classNames={{ input: "mono" }} required />
          <Switch label="keep versions" checked={versioning || lock} disabled={lock} onChange={(event) => setVersioning(event.currentTarget.checked)} mb={8} />
          <Switch label="objects can be locked" checked={lock} onChange={(event) => setLock(event.currentTarget.checked)} mb={8} />
          <Button type="submit" loading={create.busy}>
            Create
          </Button>
        </Group>
      </form>
      <Told problem={error ?? create.error} />
      {data?.length === 0 && <Empty>There are none yet.</Empty>}
      {!!data?.length && (
        <Table.ScrollContainer minWidth={480}>
          <Table data-testid="buckets" verticalSpacing="xs" mt="xs">
            <Table.Thead>
              <Table.Tr>
                <Table.Th>Name</Table.Th>
                <Table.Th>Owner</Table.Th>
                <Table.Th>Created</Table.Th>
                <Table.Th />
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {data.map((one) => (
                <Table.Tr key={one.name}>
                  <Table.Td>
                    <Anchor component="button" type="button" fw={600} onClick={() => open(one.name)}>
                      {one.name}
                    </Anchor>
                  </Table.Td>
                  <Table.Td>{one.owner}</Table.Td>
                  <Table.Td>{when(one.created_at)}</Table.Td>
                  <Table.Td ta="right">
                    <Group gap={4} justify="flex-end">
                      {one.versioning !== "never" && <Badge variant="default">versions {one.versioning === "enabled" ? "on" : "suspended"}</Badge>}
                      {one.lock && <Badge color="yellow">lock</Badge>}
                      {one.profile && <Badge variant="default">{one.profile}</Badge>}
                    </Group>
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Table.ScrollContainer>
      )}
    </Panel>
  )
}
