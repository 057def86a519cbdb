import { Alert, Autocomplete, Button, Group, Stack, Textarea, TextInput } from "@mantine/core"
import { IconCheck, IconX } from "@tabler/icons-react"
import { type FormEvent, useEffect, useState } from "react"
import { api } from "../../api"
import { Panel } from "../../parts/Panel"
import { Told } from "../../parts/Told"
import { useAction, useApi } from "../../use"
import { bucketPath, type Verdict } from "./types"

const actions = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket", "s3:GetObjectVersion", "s3:GetBucketPolicy"]

const example = (bucket: string) =>
  JSON.stringify(
    {
      Version: "2012-10-17",
      Statement: [{ Sid: "PublicRead", Effect: "Allow", Principal: "*", Action: "s3:GetObject", Resource: `arn:aws:s3:::${bucket}/public/*` }],
    },
    null,
    2,
  )

/** The bucket's policy, and what it would decide, before it is set. */
export function Policy({ bucket }: { bucket: string }) {
  const { data, error } = useApi<{ policy: string }>(`${bucketPath(bucket)}/policy`)
  const [text, setText] = useState("")
  const [principal, setPrincipal] = useState("")
  const [action, setAction] = useState("s3:GetObject")
  const [key, setKey] = useState("public/picture.jpg")
  const [address, setAddress] = useState("")
  useEffect(() => {
    if (data) setText(data.policy ? pretty(data.policy) : "")
  }, [data])
  const save = useAction(() => api<{ policy: string }>(`${bucketPath(bucket)}/policy`, { method: "PUT", body: { policy: text } }))
  const ask = useAction(() =>
    api<Verdict>("/api/objects/policy/simulate", {
      method: "POST",
      body: { bucket, action, key, principal, policy: text, context: address ? { "aws:SourceIp": address } : {} },
    }),
  )
  const submit = (event: FormEvent) => {
    event.preventDefault()
    void ask.run()
  }
  const verdict = ask.result
  return (
    <Panel title="Policy" hint="Who may do what here. Nothing is in force before it is set.">
      <Stack gap="sm">
        <Textarea
          aria-label="Policy document"
          placeholder={example(bucket)}
          value={text}
          onChange={(event) => (setText(event.currentTarget.value), ask.clear())}
          autosize
          minRows={8}
          maxRows={24}
          classNames={{ input: "mono" }}
          spellCheck={false}
        />
        <Group gap="xs">
          <Button size="xs" loading={save.busy} onClick={() => save.run()}>
            Set
          </Button>
          <Button size="xs" variant="default" onClick={() => setText(example(bucket))}>
            An example
          </Button>
        </Group>
        <Told problem={error ?? save.error ?? ask.error} />
        <form onSubmit={submit} aria-label="Simulator">
          <Group gap="xs" align="flex-end">
            <Autocomplete label="Would" placeholder="anybody" data={["me"]} value={principal} onChange={setPrincipal} w={150} />
            <Autocomplete label="be allowed to" data={actions} value={action} onChange={setAction} w={190} />
            <TextInput label="on" value={key} onChange={(event) => setKey(event.currentTarget.value)} style={{ flex: "1 1 160px" }} />
            <TextInput label="from" placeholder="any address" value={address} onChange={(event) => setAddress(event.currentTarget.value)} w={140} />
            <Button type="submit" variant="default" loading={ask.busy}>
              Ask
            </Button>
          </Group>
        </form>
        {verdict && (
          <Alert
            data-testid="verdict"
            color={verdict.allowed ? "teal" : "red"}
            icon={verdict.allowed ? <IconCheck size={18} /> : <IconX size={18} />}
            title={verdict.allowed ? "Allowed" : "Refused"}
          >
            {because(verdict)}
          </Alert>
        )}
      </Stack>
    </Panel>
  )
}

function because({ by, statement, allowed }: Verdict): string {
  if (by === "policy") return `by the statement ${statement}`
  if (by === "owner") return "because the bucket is theirs"
  if (by === "acl") return allowed ? "by an access list" : "no access list grants it"
  if (by === "scope") return "their token's scopes do not reach so far"
  return "nothing allows it"
}

function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2)
  } catch {
    return text
  }
}
