import { Stack, Tabs } from "@mantine/core"
import { lazy, Suspense, useState } from "react"
import { useSearchParams } from "wouter"
import type { Snippets } from "../registry"
import { Charts } from "./Charts"
import { Import } from "./Import"
import { LinkPage } from "./LinkPage"
import { Live } from "./Live"
import { Shorten } from "./Shorten"
import { LinkTable } from "./LinkTable"

const Pastes = lazy(() => import("./Pastes").then((module) => ({ default: module.Pastes })))

export function Page() {
  const [params, setParams] = useSearchParams()
  const [version, setVersion] = useState(0)
  const opened = params.get("link")
  const part = params.get("part") ?? "links"
  if (opened) return <LinkPage id={opened} back={() => setParams({})} />
  return (
    <Tabs value={part} onChange={(value) => setParams(value === "links" ? {} : { part: value ?? "links" })} variant="pills" keepMounted={false}>
      <Tabs.List mb="md">
        <Tabs.Tab value="links">Links</Tabs.Tab>
        <Tabs.Tab value="charts">Charts</Tabs.Tab>
        <Tabs.Tab value="import">Import</Tabs.Tab>
        <Tabs.Tab value="pastes">Pastes</Tabs.Tab>
      </Tabs.List>
      <Tabs.Panel value="links">
        <Stack>
          <Shorten onMade={() => setVersion((n) => n + 1)} />
          <LinkTable version={version} open={(id) => setParams({ link: id })} />
          <Live open={(id) => setParams({ link: id })} />
        </Stack>
      </Tabs.Panel>
      <Tabs.Panel value="charts">
        <Charts path="/api/links/stats" title="Every link" />
      </Tabs.Panel>
      <Tabs.Panel value="import">
        <Import />
      </Tabs.Panel>
      <Tabs.Panel value="pastes">
        <Suspense>
          <Pastes />
        </Suspense>
      </Tabs.Panel>
    </Tabs>
  )
}

export const snippets: Snippets = ({ origin, listeners }) => [
  {
    label: "curl",
    code: `TOKEN=$(mainspring token create links)
curl -s ${origin}/api/links/links -H "Authorization: Bearer $TOKEN" \\
  -H 'Content-Type: application/json' -d '{"url": "https://example.org/a/long/path", "alias": "short"}'
curl -si ${listeners.links ?? ""}short | grep -i location`,
  },
  {
    label: "Python, in your own process",
    code: `from mainspring.core.application import Mainspring
from mainspring.core.config import Config
from mainspring.social.links import Links

async with Mainspring(["links"], Config(data="./data")) as mainspring:
    links = await mainspring.service(Links)
    link = await links.create("https://example.org/a/long/path", max_visits=100)
    print(links.domains.short_url(link))`,
  },
  {
    label: "The Shlink SDK (npm)",
    code: `import { ShlinkApiClient } from "@shlinkio/shlink-js-sdk"
import { NodeHttpClient } from "@shlinkio/shlink-js-sdk/node"

const shlink = new ShlinkApiClient(new NodeHttpClient(), {
  baseUrl: "${(listeners.links ?? "").replace(/\/$/, "")}",
  apiKey: token,
})
await shlink.createShortUrl({ longUrl: "https://example.org/a/long/path", customSlug: "short" })`,
  },
  {
    label: "pbincli: an encrypted paste",
    code: `echo "only for you" | pbincli send --server ${listeners.links ?? ""} --burn -`,
  },
]
