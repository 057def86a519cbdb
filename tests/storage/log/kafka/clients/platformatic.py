"""What a user of @platformatic/kafka, a younger client under Node, does and sees."""

import json
import threading
from typing import Any

from tests.social.links.peers import npm_package, run_node

Seen = list[tuple[str, Any]]
_ONE_AT_A_TIME = threading.Lock()
"""A script has one name in a process."""

SCRIPT = """
import { Admin, Consumer, ConfigResourceTypes, FetchIsolationLevels, ListOffsetTimestamps, MessagesStreamModes, Producer,
  stringDeserializers, stringSerializers } from '@platformatic/kafka'
const [address, name] = process.argv.slice(2)
const base = { clientId: 'platformatic', bootstrapBrokers: [address], retries: 20, retryDelay: 100 }
const seen = []
const codes = (error) => [error?.apiId, ...(error?.errors ?? []).flatMap(codes), ...(error?.cause ? codes(error.cause) : [])]
const outcome = async (work) => {
  try { await work(); return 'done' } catch (error) { return [...new Set(codes(error))].filter(Boolean) }
}
const plainly = (_, one) => one instanceof Map ? [...one] : typeof one === 'bigint' ? Number(one) : one
const plain = (value) => JSON.parse(JSON.stringify(value, plainly))
const admin = new Admin(base)
const wanted = { topics: [name], partitions: 2, replicas: 1, configs: [{ name: 'retention.ms', value: '7200000' }] }
seen.push(['created', (await admin.createTopics(wanted)).map((topic) => [topic.name, topic.partitions, topic.replicas])])
seen.push(['created again', await outcome(() => admin.createTopics(wanted))])

const producer = new Producer({ ...base, serializers: stringSerializers, idempotent: true })
for (const compression of ['none', 'gzip', 'snappy', 'lz4', 'zstd'])
  for (let partition = 0; partition < 2; partition++) {
    const messages = Array.from({ length: 8 }, (_, number) => ({
      topic: name, partition, key: `k${number}`, value: `v${number} ${compression}`.repeat(20), headers: { n: `${number}` }
    }))
    const { offsets } = await producer.send({ messages, compression })
    seen.push(['sent', plain(offsets).map(({ partition, offset }) => [partition, offset])])
  }
await producer.close()

const read = async (group, count, options) => {
  const consumer = new Consumer({ ...base, groupId: group, deserializers: stringDeserializers, ...options })
  const mode = MessagesStreamModes.COMMITTED
  const stream = await consumer.consume({ topics: [name], mode, fallbackMode: 'earliest', autocommit: false })
  const found = []
  const last = new Map()
  for await (const message of stream) {
    const { partition, offset, key, value, headers } = message
    found.push([partition, Number(offset), key ?? null, value, [...headers.values()]])
    last.set(partition, message)
    if (found.length === count) break
  }
  for (const message of last.values()) await message.commit()
  const committed = plain(await consumer.listCommittedOffsets({ topics: [{ topic: name, partitions: [0, 1] }] }))
  const joined = consumer.memberId !== null
  await consumer.close(true)
  return [found.sort((a, b) => a[0] - b[0] || a[1] - b[1]), joined, committed]
}
const classic = `${name}-classic`
seen.push(['read', await read(classic, 80, { sessionTimeout: 10000, heartbeatInterval: 500 })])
seen.push(['read by the new protocol', await read(`${name}-new`, 80, { groupProtocol: 'consumer' })])
const { state, protocolType } = (await admin.describeGroups({ groups: [classic] })).get(classic)
seen.push(['group', [state, protocolType]])

const transactional = new Producer({
  ...base, serializers: stringSerializers, idempotent: true, transactionalId: `${name}-id`
})
for (const commits of [true, false, true]) {
  const transaction = await transactional.beginTransaction()
  for (let partition = 0; partition < 2; partition++)
    await transaction.send({ messages: [{ topic: name, partition, value: `transaction ${commits}` }] })
  await (commits ? transaction.commit() : transaction.abort())
  seen.push(['transaction', transaction.completed])
}
await transactional.close()
const { READ_COMMITTED, READ_UNCOMMITTED } = FetchIsolationLevels
seen.push(['committed', await read(classic, 4, { isolationLevel: READ_COMMITTED })])
seen.push(['uncommitted', (await read(`${name}-dirty`, 86, { isolationLevel: READ_UNCOMMITTED }))[0].length])

for (const timestamp of [ListOffsetTimestamps.LATEST, ListOffsetTimestamps.EARLIEST]) {
  const partitions = [0, 1].map((partitionIndex) => ({ partitionIndex, timestamp }))
  const [listed] = plain(await admin.listOffsets({ topics: [{ name, partitions }] }))
  seen.push(['offsets', listed.partitions.map(({ partitionIndex, offset }) => [partitionIndex, offset]).sort()])
}
const [shorter] = plain(await admin.deleteRecords({ topics: [{ name, partitions: [{ partition: 0, offset: 5n }] }] }))
seen.push(['deleted records', shorter.partitions.map((one) => one.lowWatermark)])
const asked = [{ groupId: `${name}-new`, topics: [{ name, partitionIndexes: [0, 1] }] }]
const [positions] = plain(await admin.listConsumerGroupOffsets({ groups: asked }))
seen.push(['positions', positions.topics[0].partitions.map((one) => [one.partitionIndex, one.committedOffset]).sort()])
for (const count of [3, 1])
  seen.push(['grown', await outcome(() => admin.createPartitions({ topics: [{ name, count, assignments: null }] }))])
const resource = { resourceType: ConfigResourceTypes.TOPIC, resourceName: name, configurationKeys: ['retention.ms'] }
const [described] = await admin.describeConfigs({ resources: [resource] })
seen.push(['settings', described.configs.map(({ name, value }) => [name, value])])
for (const groups of [[classic, `${name}-new`], [classic]])
  seen.push(['groups deleted', await outcome(() => admin.deleteGroups({ groups }))])
seen.push(['deleted', await outcome(() => admin.deleteTopics({ topics: [name] }))])
await admin.close()
const hasty = new Admin({ ...base, retries: 0 })
seen.push(['deleted again', await outcome(() => hasty.deleteTopics({ topics: [`${name}-missing`] }))])
await hasty.close()
console.log(JSON.stringify(seen))
"""


def run(address: str, name: str) -> Seen:
    folder = npm_package("@platformatic/kafka", "2.12.0")
    with _ONE_AT_A_TIME:
        printed = run_node(SCRIPT, folder, address, name)
    return [(step, value) for step, value in json.loads(printed)]
