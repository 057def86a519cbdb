"""What a user of kafkajs, under Node, does and sees."""

import json
import threading
from typing import Any

from tests.social.links.peers import npm_package, run_node

Seen = list[tuple[str, Any]]
_ONE_AT_A_TIME = threading.Lock()
"""A script has one name in a process."""

SCRIPT = """
import { Kafka, logLevel, CompressionTypes } from 'kafkajs'
const [address, name] = process.argv.slice(2)
const kafka = new Kafka({ brokers: [address], clientId: 'js', logLevel: logLevel.NOTHING })
const seen = []
const outcome = async (work) => { try { return await work() } catch (error) { return error.type ?? error.name } }
const admin = kafka.admin()
await admin.connect()
const topics = [{ topic: name, numPartitions: 2, replicationFactor: 1 }]
seen.push(['created', await admin.createTopics({ topics })])
seen.push(['created again', await admin.createTopics({ topics })])
const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
await producer.connect()
for (const compression of [CompressionTypes.None, CompressionTypes.GZIP])
  for (let partition = 0; partition < 2; partition++)
    seen.push(['sent', (await producer.send({ topic: name, compression, messages: Array.from({ length: 10 }, (_, number) =>
      ({ key: `k${number}`, value: `v${number} ${compression}`, partition, headers: { n: String(number) } })) }))
      .map(({ partition, errorCode, baseOffset }) => [partition, errorCode, baseOffset])])
await producer.disconnect()
const consumer = kafka.consumer({ groupId: `${name}-group` })
await consumer.connect()
await consumer.subscribe({ topics: [name], fromBeginning: true })
const read = []
await new Promise((resolve) => consumer.run({ autoCommit: false, eachMessage: async ({ partition, message }) => {
  read.push([partition, Number(message.offset), message.key.toString(), message.value.toString(), message.headers.n.toString()])
  if (read.length === 40) resolve()
} }))
await consumer.commitOffsets([0, 1].map((partition) => ({ topic: name, partition, offset: '20' })))
seen.push(['read', read.sort((a, b) => a[0] - b[0] || a[1] - b[1])])
const { groups } = await admin.describeGroups([`${name}-group`])
seen.push(['group', groups.map((group) => [group.state, group.protocolType, group.members.length])])
await consumer.disconnect()
seen.push(['offsets', (await admin.fetchOffsets({ groupId: `${name}-group`, topics: [name] }))
  .map(({ partitions }) => partitions.map(({ partition, offset }) => [partition, offset]).sort())])
seen.push(['ends', (await admin.fetchTopicOffsets(name)).map(({ partition, high, low }) => [partition, high, low]).sort()])
const transactional = kafka.producer({ transactionalId: `${name}-id`, maxInFlightRequests: 1, idempotent: true })
await transactional.connect()
for (const commits of [true, false]) {
  const transaction = await transactional.transaction()
  await transaction.send({ topic: name, messages: [{ value: `transaction ${commits}`, partition: 0 }] })
  await (commits ? transaction.commit() : transaction.abort())
  seen.push(['transaction', commits])
}
await transactional.disconnect()
seen.push(['settings', (await admin.describeConfigs({ resources: [{ type: 2, name, configNames: ['cleanup.policy'] }] }))
  .resources.map(({ errorCode, configEntries }) => [errorCode, configEntries.map((entry) => entry.configValue)])])
seen.push(['deleted', await outcome(() => admin.deleteTopics({ topics: [name] }))])
seen.push(['deleted again', await outcome(() => admin.deleteTopics({ topics: [`${name}-missing`] }))])
await admin.disconnect()
console.log(JSON.stringify(seen))
"""


def run(address: str, name: str) -> Seen:
    folder = npm_package("kafkajs", "2.2.4")
    with _ONE_AT_A_TIME:
        printed = run_node(SCRIPT, folder, address, name)
    return [(step, value) for step, value in json.loads(printed)]
