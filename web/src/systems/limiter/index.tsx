import { SimpleGrid, Stack } from "@mantine/core"
import type { Snippets } from "../registry"
import { Compare } from "./Compare"
import { Keys } from "./Keys"
import { Policies } from "./Policies"
import { Replay } from "./Replay"

export function Page() {
  return (
    <Stack>
      <Compare />
      <SimpleGrid cols={{ base: 1, md: 2 }} style={{ alignItems: "start" }}>
        <Policies />
        <Keys />
      </SimpleGrid>
      <Replay />
    </Stack>
  )
}

export const snippets: Snippets = ({ origin }) => [
  {
    label: "curl",
    code: `TOKEN=$(mainspring token create limiter)
curl -s -X PUT ${origin}/api/limiter/policies/api -H "Authorization: Bearer $TOKEN" \\
  -H 'Content-Type: application/json' -d '{"text": "100/minute; 10/s burst 20"}'
curl -s ${origin}/api/limiter/api/hit -H "Authorization: Bearer $TOKEN" \\
  -H 'Content-Type: application/json' -d '{"key": "user-1"}'`,
  },
  {
    label: "Python, in your own process",
    code: `from mainspring.core.clock import SystemClock
from mainspring.primitives.limiter import MemoryLimiter, TokenBucket

limiter = MemoryLimiter(SystemClock(), api="100/minute; 1000/hour", login=TokenBucket(5, per=60))
if not limiter.hit("api", "user-1"):
    print("too many")`,
  },
  {
    label: "nginx",
    code: `location = /limit {
    internal;
    proxy_pass ${origin}/api/limiter/check/api?key=$remote_addr&deny=403;
    proxy_set_header Authorization "Bearer TOKEN";
    proxy_pass_request_body off;
    proxy_set_header Content-Length "";
}
location / {
    auth_request /limit;
}`,
  },
]
