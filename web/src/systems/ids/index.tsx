import { SimpleGrid, Stack } from "@mantine/core"
import type { Snippets } from "../registry"
import { Mint } from "./Mint"
import { Read } from "./Read"
import { Setback } from "./Setback"
import { Workers } from "./Workers"

export function Page() {
  return (
    <Stack>
      <SimpleGrid cols={{ base: 1, md: 2 }} style={{ alignItems: "start" }}>
        <Mint />
        <Read />
      </SimpleGrid>
      <Setback />
      <Workers />
    </Stack>
  )
}

export const snippets: Snippets = ({ origin }) => [
  {
    label: "curl",
    code: `TOKEN=$(mainspring token create ids)
curl -s ${origin}/api/ids -H "Authorization: Bearer $TOKEN" \\
  -H 'Content-Type: application/json' -d '{"kind": "typeid", "prefix": "user", "count": 3}'
curl -s ${origin}/api/ids/01ARZ3NDEKTSV4RRFFQ69G5FAV -H "Authorization: Bearer $TOKEN"`,
  },
  {
    label: "Python, in your own process",
    code: `from mainspring.core.application import Mainspring
from mainspring.core.config import Config
from mainspring.primitives.ids import Ids

async with Mainspring(["ids"], Config(data="./data")) as mainspring:
    ids = await mainspring.service(Ids)      # leases a worker id
    ids.next()                               # 64 bits, a plain call
    ids.take(1000)                           # a thousand, rising
    print(ids.typeid("user"), await ids.sequence("invoice").next())`,
  },
  {
    label: "JavaScript, any ULID or UUID library",
    code: `import { decodeTime } from "ulid"
const { ids } = await (await fetch("${origin}/api/ids", {
  method: "POST",
  headers: { authorization: \`Bearer \${token}\`, "content-type": "application/json" },
  body: JSON.stringify({ kind: "ulid", count: 10 }),
})).json()
new Date(decodeTime(ids[0]))`,
  },
]
