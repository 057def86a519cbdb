import { Badge, Group, Kbd, Paper, SimpleGrid, Stack, Text, TextInput, Title } from "@mantine/core"
import { useHotkeys } from "@mantine/hooks"
import { IconSearch } from "@tabler/icons-react"
import { useRef, useState } from "react"
import { Link, useLocation } from "wouter"
import { Empty } from "../parts/Told"
import { State } from "./State"
import { find, useSystems } from "./systems"

/** Finds a system by its name, its family or what it is for. */
export function Home() {
  const { systems } = useSystems()
  const [query, setQuery] = useState("")
  const [, go] = useLocation()
  const box = useRef<HTMLInputElement>(null)
  useHotkeys([["/", () => box.current?.focus()]])
  const found = find(systems, query)
  return (
    <Stack gap="lg" maw={1100}>
      <div>
        <Title order={1} size="h2">
          What do you need?
        </Title>
        <Text c="dimmed">Every system here runs for real: use it on its page, or from the clients that its field already has.</Text>
      </div>
      <TextInput
        ref={box}
        size="md"
        type="search"
        aria-label="Find a system"
        placeholder="short link, rate limit, unique id …"
        leftSection={<IconSearch size={18} />}
        rightSection={<Kbd visibleFrom="sm">/</Kbd>}
        value={query}
        onChange={(event) => setQuery(event.currentTarget.value)}
        onKeyDown={(event) => event.key === "Enter" && found[0] && go(`/${found[0].name}`)}
      />
      {found.length === 0 && <Empty>No system here does that yet. Try a word for what you want to do.</Empty>}
      <SimpleGrid cols={{ base: 1, sm: 2, lg: 3 }}>
        {found.map((one) => (
          <Link key={one.name} href={`/${one.name}`} className="card">
            <Paper withBorder p="md" h="100%">
              <Group justify="space-between" wrap="nowrap" mb={4}>
                <Text fw={620}>{one.name}</Text>
                <State system={one} />
              </Group>
              <Text size="sm">{one.summary}</Text>
              <Group gap={6} mt="sm">
                <Badge variant="default" size="sm">
                  {one.family}
                </Badge>
                <Badge variant="default" size="sm">
                  level {one.level}
                </Badge>
              </Group>
            </Paper>
          </Link>
        ))}
      </SimpleGrid>
    </Stack>
  )
}
