import { ActionIcon, Anchor, AppShell, Burger, Center, Group, Loader, NavLink, ScrollArea, Text, Tooltip, useComputedColorScheme, useMantineColorScheme } from "@mantine/core"
import { useDisclosure } from "@mantine/hooks"
import { IconMoon, IconSun, IconUser } from "@tabler/icons-react"
import { Suspense, useEffect } from "react"
import { Link, Route, Switch, useLocation } from "wouter"
import { Panel } from "../parts/Panel"
import { Told } from "../parts/Told"
import { useApi } from "../use"
import { Account } from "./Account"
import { Home } from "./Home"
import { SignIn } from "./SignIn"
import { SystemPage } from "./SystemPage"
import { type Caller, type SystemInfo, Systems } from "./systems"

export function Console() {
  const { data, error, reload } = useApi<{ systems: SystemInfo[] }>("/-/systems", 4000)
  const who = useApi<Caller>("/api/accounts/whoami")
  const [open, { toggle, close }] = useDisclosure()
  const [path] = useLocation()
  useEffect(close, [path])
  useEffect(() => {
    const again = () => who.reload()
    window.addEventListener("signed-out", again)
    return () => window.removeEventListener("signed-out", again)
  }, [who.reload])

  if ((!data && !error) || (!who.data && !who.error)) return <Waiting />
  const caller = who.data && who.data.kind !== "anonymous" ? who.data : undefined
  const systems = data?.systems ?? []
  const families = [...new Set(systems.map((one) => one.family))]
  return (
    <Systems.Provider value={{ systems, caller, reload: () => (reload(), who.reload()) }}>
      <a href="#main" className="skip">
        To the content
      </a>
      <AppShell
        header={{ height: 52 }}
        navbar={{ width: 220, breakpoint: "sm", collapsed: { mobile: !open } }}
        padding={{ base: "sm", sm: "lg" }}
      >
        <AppShell.Header px="md">
          <Group h="100%" justify="space-between" wrap="nowrap">
            <Group gap="xs" wrap="nowrap">
              <Burger opened={open} onClick={toggle} hiddenFrom="sm" size="sm" aria-label="Systems" />
              <Anchor component={Link} href="/" className="plain" aria-label="Mainspring, home">
                <Group gap={8} wrap="nowrap">
                  <img src="/mark.svg" alt="" width={26} height={26} />
                  <Text fw={650} size="lg">
                    Mainspring
                  </Text>
                </Group>
              </Anchor>
            </Group>
            <Group gap={4} wrap="nowrap">
              <Tooltip label={caller ? caller.name : "Sign in"}>
                <ActionIcon component={Link} href="/account" variant="subtle" color="gray" size="lg" aria-label="Account">
                  <IconUser size={19} />
                </ActionIcon>
              </Tooltip>
              <Scheme />
            </Group>
          </Group>
        </AppShell.Header>
        <AppShell.Navbar p="xs" component="nav" aria-label="Systems">
          <ScrollArea>
            <NavLink component={Link} href="/" label="All systems" active={path === "/"} />
            {families.map((family) => (
              <div key={family}>
                <Text size="xs" tt="uppercase" c="dimmed" px="sm" pt="md" pb={4}>
                  {family}
                </Text>
                {systems
                  .filter((one) => one.family === family)
                  .map((one) => (
                    <NavLink
                      key={one.name}
                      component={Link}
                      href={`/${one.name}`}
                      label={one.name}
                      active={path.split("/")[1] === one.name}
                    />
                  ))}
              </div>
            ))}
          </ScrollArea>
        </AppShell.Navbar>
        <AppShell.Main id="main">
          <Told problem={error} />
          <Suspense fallback={<Waiting />}>
            <Switch>
              <Route path="/" component={Home} />
              <Route path="/account" component={caller ? Account : SignIn} />
              <Route path="/problems/:system/:type">{({ system, type }) => <ProblemType system={system} type={type} />}</Route>
              <Route path="/:name/*?">{({ name }) => (caller ? <SystemPage key={name} name={name} /> : <SignIn />)}</Route>
            </Switch>
          </Suspense>
        </AppShell.Main>
      </AppShell>
    </Systems.Provider>
  )
}

/** Where the `type` of an error leads (RFC 9457). */
function ProblemType({ system, type }: { system: string; type: string }) {
  return (
    <Panel title={`${system}/${type}`} hint="The name of a kind of error. It stays the same for ever, so that programs can tell by it what to do.">
      <Text size="sm">
        An answer with this type says in <code>detail</code> what was wrong, and in <code>pointer</code> which field, where it is a field.{" "}
        {system === "core" ? "Any system may answer it." : <Anchor href={`/api/${system}/openapi.json`}>The description of {system}</Anchor>}
      </Text>
    </Panel>
  )
}

function Waiting() {
  return (
    <Center h="40vh">
      <Loader aria-label="Loading" />
    </Center>
  )
}

function Scheme() {
  const { setColorScheme } = useMantineColorScheme()
  const dark = useComputedColorScheme("light") === "dark"
  return (
    <Tooltip label={dark ? "Light" : "Dark"}>
      <ActionIcon variant="subtle" color="gray" size="lg" aria-label="Light or dark" onClick={() => setColorScheme(dark ? "light" : "dark")}>
        {dark ? <IconSun size={19} /> : <IconMoon size={19} />}
      </ActionIcon>
    </Tooltip>
  )
}
