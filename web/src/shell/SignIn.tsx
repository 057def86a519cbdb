import { Button, Code, PasswordInput, Stack, Text, TextInput } from "@mantine/core"
import { type FormEvent, useState } from "react"
import { api } from "../api"
import { Panel } from "../parts/Panel"
import { Told } from "../parts/Told"
import { useAction } from "../use"
import { useSystems } from "./systems"

export function SignIn() {
  const { reload } = useSystems()
  const [name, setName] = useState("")
  const [password, setPassword] = useState("")
  const signIn = useAction(async () => {
    await api("/-/session", { method: "POST", body: { name, password } })
    reload()
  })
  const submit = (event: FormEvent) => {
    event.preventDefault()
    void signIn.run()
  }
  return (
    <Stack maw={420} mx="auto" mt="xl">
      <Panel title="Sign in">
        <form onSubmit={submit}>
          <Stack gap="sm">
            <TextInput label="Name" value={name} onChange={(event) => setName(event.currentTarget.value)} autoComplete="username" required />
            <PasswordInput
              label="Password"
              value={password}
              onChange={(event) => setPassword(event.currentTarget.value)}
              autoComplete="current-password"
              required
            />
            <Told problem={signIn.error} />
            <Button type="submit" loading={signIn.busy}>
              Sign in
            </Button>
          </Stack>
        </form>
      </Panel>
      <Text size="sm" c="dimmed">
        On the machine itself, open the address that <Code>mainspring up</Code> printed: it signs you in with one click.
      </Text>
    </Stack>
  )
}
