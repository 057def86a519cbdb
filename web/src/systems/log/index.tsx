import { Stack, Tabs } from "@mantine/core"
import { useSearchParams } from "wouter"
import type { Snippets } from "../registry"
import { GroupPage, Groups } from "./Groups"
import { TopicPage } from "./TopicPage"
import { Topics } from "./Topics"
import { Transactions } from "./Transactions"

export function Page() {
  const [params, setParams] = useSearchParams()
  const topic = params.get("topic")
  const group = params.get("group")
  const part = params.get("part") ?? "topics"
  if (topic) return <TopicPage key={topic} name={topic} back={() => setParams({})} />
  if (group) return <GroupPage key={group} name={group} back={() => setParams({ part: "groups" })} />
  return (
    <Tabs value={part} onChange={(value) => setParams(value === "topics" ? {} : { part: value ?? "topics" })} variant="pills" keepMounted={false}>
      <Tabs.List mb="md">
        <Tabs.Tab value="topics">Topics</Tabs.Tab>
        <Tabs.Tab value="groups">Groups</Tabs.Tab>
        <Tabs.Tab value="transactions">Transactions</Tabs.Tab>
      </Tabs.List>
      <Tabs.Panel value="topics">
        <Stack>
          <Topics open={(name) => setParams({ topic: name })} />
        </Stack>
      </Tabs.Panel>
      <Tabs.Panel value="groups">
        <Groups open={(name) => setParams({ group: name })} />
      </Tabs.Panel>
      <Tabs.Panel value="transactions">
        <Transactions />
      </Tabs.Panel>
    </Tabs>
  )
}

export const snippets: Snippets = ({ origin, listeners }) => {
  const kafka = (listeners.kafka ?? "127.0.0.1:9092").replace(/^\w+:\/\//, "").replace(/\/$/, "")
  return [
    {
      label: "curl",
      code: `TOKEN=$(mainspring token create log)
curl -s ${origin}/api/log/topics -H "Authorization: Bearer $TOKEN" \\
  -H 'Content-Type: application/json' -d '{"name": "orders", "partitions": 3}'
curl -s ${origin}/api/log/topics/orders/records -H "Authorization: Bearer $TOKEN" \\
  -H 'Content-Type: application/json' -H 'Idempotency-Key: order-17' \\
  -d '{"records": [{"key": "user-1", "json": {"status": "paid", "amount": 120}}]}'
curl -sG ${origin}/api/log/topics/orders/records -H "Authorization: Bearer $TOKEN" \\
  -d offset=-50 --data-urlencode 'where=status = "paid" and amount > 100'`,
    },
    {
      label: "kcat",
      code: `echo 'user-1:{"status": "paid"}' | kcat -b ${kafka} -P -t orders -K :
kcat -b ${kafka} -C -t orders -o beginning -e -f '%p:%o %k %s\\n'
kcat -b ${kafka} -G billing orders`,
    },
    {
      label: "Python, any Kafka client: confluent-kafka",
      code: `from confluent_kafka import Consumer, Producer

producer = Producer({"bootstrap.servers": "${kafka}", "enable.idempotence": True})
producer.produce("orders", key="user-1", value='{"status": "paid"}')
producer.flush()

consumer = Consumer({"bootstrap.servers": "${kafka}", "group.id": "billing", "auto.offset.reset": "earliest"})
consumer.subscribe(["orders"])
while True:
    message = consumer.poll(1.0)
    if message is not None and not message.error():
        print(message.partition(), message.offset(), message.key(), message.value())`,
    },
    {
      label: "Python, in your own process",
      code: `from mainspring.core.application import Mainspring
from mainspring.core.config import Config
from mainspring.storage.log import Log

async with Mainspring(["log"], Config(data="./data")) as mainspring:
    log = await mainspring.service(Log)
    await log.create_topic("orders", partitions=3)
    await log.append("orders", b'{"status": "paid"}', key=b"user-1")   # on the disk when it returns
    async with log.transaction("copier") as transaction:
        await transaction.append("invoices", b"for user-1")
    async for batch in log.consumer("billing", ["orders"]):
        print([record.value for record in batch])
        break`,
    },
  ]
}
