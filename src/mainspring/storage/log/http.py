"""The JSON API of the log, below `/api/log`.

Looking needs `log:read`, appending `log:write`; topics, positions of groups and transactions are changed with `log:admin`.
"""

import asyncio
from collections.abc import Iterable, Mapping
from heapq import nsmallest
from typing import Any

from mainspring.core.http import Channel, Routes
from mainspring.core.http.pages import Cursors, Page, PageQuery
from mainspring.core.once import Once
from mainspring.core.ports import Database, Position
from mainspring.core.problems import Conflict, Invalid
from mainspring.storage.log import lag
from mainspring.storage.log import once as appending
from mainspring.storage.log.browsing import Place, Start, browse
from mainspring.storage.log.errors import (
    InvalidConfig,
    InvalidPartitions,
    InvalidRecord,
    InvalidTimestamp,
    InvalidTopic,
    MessageTooLarge,
    OffsetOutOfRange,
    Overloaded,
    StorageFailed,
    TopicExists,
    UnknownPartition,
)
from mainspring.storage.log.groups.errors import GroupIdNotFound, InvalidGroupId, NonEmptyGroup
from mainspring.storage.log.inputs import (
    CompactionQuery,
    NewRecords,
    NewTopic,
    PartitionQuery,
    PartitionsQuery,
    RecordsQuery,
    TailQuery,
    TopicEdit,
    TopicQuery,
    TransactionQuery,
    config_texts,
    new_record,
    read_timestamp,
)
from mainspring.storage.log.internal_topics import TRANSACTION_STATE
from mainspring.storage.log.lag import GroupRow, GroupView, MovedView, OffsetReset
from mainspring.storage.log.preview import CompactionView, preview
from mainspring.storage.log.service import Log
from mainspring.storage.log.settings import SETTINGS, TopicConfig, default_values
from mainspring.storage.log.topics import Topic
from mainspring.storage.log.transaction_errors import InvalidTxnState, TransactionalIdNotFound
from mainspring.storage.log.transaction_machine import State
from mainspring.storage.log.views import (
    BrokerView,
    ClusterView,
    PlaceView,
    Produced,
    RecordsPage,
    SegmentView,
    TopicRow,
    TopicView,
    TransactionView,
    record_view,
    segment_views,
    topic_row,
    topic_view,
    transaction_view,
)
from mainspring.storage.log.watching import Tail, Watchers, topic_of, watch
from mainspring.storage.log.where import Filter, InvalidFilter

routes = Routes("log")

ADMIN = "log:admin"
BODY_BYTES_MAX = 2 << 20
FAILED_SHOWN = 100
NAMED: Cursors[str] = Cursors("log.names", str)
PLACED: Cursors[Place] = Cursors("log.records", Place)
APPENDING = (
    UnknownPartition,
    InvalidTopic,
    InvalidRecord,
    InvalidTimestamp,
    MessageTooLarge,
    StorageFailed,
    Overloaded,
)


@routes.get("/topics")
async def topics(query: TopicQuery, log: Log) -> Page[TopicRow]:
    """Topics by name."""
    named = log.engine.topics
    found = [name for name, one in named.items() if query.q in name and (query.internal or not one.internal)]
    page = _page(found, query, query.q, query.internal)
    return Page([topic_row(named[name]) for name in page.items], page.next)


@routes.post("/topics", status=201, scope=ADMIN, problems=(TopicExists, InvalidTopic, InvalidPartitions, InvalidConfig))
async def create_topic(body: NewTopic, log: Log) -> TopicView:
    """Makes a topic, durable when this is answered."""
    topic = await log.engine.create_topic(body.name, body.partitions, config_texts(body.config))
    return topic_view(topic, log.engine.node_id)


@routes.get("/topics/{topic}", problems=(UnknownPartition,))
async def topic(topic: str, query: PartitionsQuery, log: Log) -> TopicView:
    """A topic with its partitions and the settings in force."""
    return topic_view(topic_of(log.engine, topic), log.engine.node_id, query.first)


@routes.patch(
    "/topics/{topic}", scope=ADMIN, problems=(UnknownPartition, InvalidTopic, InvalidPartitions, InvalidConfig)
)
async def edit_topic(topic: str, body: TopicEdit, log: Log) -> TopicView:
    """Changes settings, and adds partitions: keys may go to others from then on."""
    found = _own(log, topic)
    changes = config_texts(body.config)
    _check_changes(log, found, changes)
    if isinstance(body.partitions, int) and body.partitions != len(found.partitions):
        await log.engine.add_partitions(topic, body.partitions)
    if changes:
        await log.engine.configure(topic, changes)
    return topic_view(topic_of(log.engine, topic), log.engine.node_id)


@routes.delete("/topics/{topic}", scope=ADMIN, problems=(UnknownPartition, InvalidTopic))
async def delete_topic(topic: str, log: Log) -> None:
    """Ends a topic with all that is in it, and what groups know of it."""
    _own(log, topic)
    await log.delete_topic(topic)


@routes.post("/topics/{topic}/records", idempotent=True, body_bytes_max=BODY_BYTES_MAX, status=201, problems=APPENDING)
async def produce(topic: str, body: NewRecords, log: Log, database: Database, once: Once | None) -> Produced:
    """Appends up to 1,000 records, durable when this is answered.

    Each goes to the partition that it names, or that of its key; those with neither go to one. Records of one partition
    stay together and in order.
    """
    found = _own(log, topic)
    records = [new_record(one, at) for at, one in enumerate(body.records)]
    if once is not None:
        return _produced(await appending.append(log, database, once, found, records))
    appending.check(found, records, log.clock.wall_ns() // 1_000_000)
    return _produced(await log.append_records(topic, records))


@routes.get("/topics/{topic}/records", problems=(UnknownPartition, OffsetOutOfRange, InvalidFilter))
async def records(topic: str, query: RecordsQuery, log: Log) -> RecordsPage:
    """Records from a place on, those that fit `where` if it is given."""
    found = topic_of(log.engine, topic)
    if query.offset is not None and query.timestamp is not None:
        raise Invalid("Give an offset or a timestamp, not both", pointer="/query/timestamp")
    if query.partition is not None:
        log.engine.partition(topic, query.partition)
    start = Start(query.offset, None if query.timestamp is None else read_timestamp(query.timestamp))
    where = Filter(query.where) if query.where else None
    asked = (str(found.id), query.partition, *start, query.where, query.isolation)
    place = PLACED.open(query.cursor, *asked) or Place(query.partition or 0, None)
    last = query.partition if query.partition is not None else len(found.partitions) - 1
    leaf = await browse(found, place, last, start, query.limit, where, query.isolation)
    return RecordsPage(
        [record_view(index, read) for index, read in leaf.found],
        leaf.scanned,
        None if leaf.next is None else PLACED.seal(leaf.next, *asked),
    )


@routes.websocket("/topics/{topic}/tail", problems=(UnknownPartition, InvalidFilter))
async def tail(topic: str, channel: Channel, query: TailQuery, log: Log, watchers: Watchers) -> None:
    """Records as they arrive. What a slow reader missed is counted in `dropped`."""
    found = topic_of(log.engine, topic)
    if query.partition is not None:
        log.engine.partition(topic, query.partition)
    where = Filter(query.where) if query.where else None
    await watch(channel, log, Tail(found, query.partition, where, query.isolation), watchers)


@routes.get("/topics/{topic}/segments", problems=(UnknownPartition,))
async def segments(topic: str, query: PartitionQuery, log: Log) -> list[SegmentView]:
    """The files of a partition, oldest first."""
    return segment_views(log.engine.partition(topic, query.partition))


@routes.get("/topics/{topic}/compaction", problems=(UnknownPartition,))
async def compaction(topic: str, query: CompactionQuery, log: Log) -> CompactionView:
    """What compaction would keep of a partition. Nothing is changed."""
    now_ms = log.clock.wall_ns() // 1_000_000
    return await preview(log.engine.partition(topic, query.partition), now_ms, active=query.active)


@routes.get("/groups")
async def groups(query: PageQuery, log: Log) -> Page[GroupRow]:
    """Groups by name, with how many records are ahead of each."""
    page = _page(await lag.names(log), query)
    return Page([await lag.row(log, name) for name in page.items], page.next)


@routes.get("/groups/{group}", problems=(GroupIdNotFound,))
async def group(group: str, log: Log) -> GroupView:
    """A group with its members, and where it stands in every partition."""
    return await lag.view(log, group)


@routes.post(
    "/groups/{group}/offsets",
    scope=ADMIN,
    problems=(NonEmptyGroup, UnknownPartition, InvalidGroupId, GroupIdNotFound, Conflict),
)
async def reset_offsets(group: str, body: OffsetReset, log: Log) -> list[MovedView]:
    """Sets where a group goes on; refused while it has members."""
    if (body.timestamp is not None) != (body.to == "timestamp"):
        raise Invalid("A timestamp belongs to `to: timestamp`", pointer="/body/timestamp")
    if (body.by is not None) != (body.to == "shift"):
        raise Invalid("`by` belongs to `to: shift`", pointer="/body/by")
    amount = read_timestamp(body.timestamp, "/body/timestamp") if body.timestamp is not None else body.by or 0
    return await lag.reset(log, group, body.topic, body.partitions, body.to, amount)


@routes.get("/transactions")
async def transactions(query: TransactionQuery, log: Log) -> Page[TransactionView]:
    """Transactional ids by name, each with the transaction that is open or was the last."""
    if TRANSACTION_STATE not in log.engine.topics:
        return Page([])
    by_id = await log.transactions.opened()
    ended = (State.EMPTY, State.COMPLETE_COMMIT, State.COMPLETE_ABORT)
    found = [id for id, one in by_id.items() if not query.open or one.state not in ended]
    page = _page(found, query, query.open)
    return Page([transaction_view(by_id[id]) for id in page.items], page.next)


@routes.post("/transactions/{id}/abort", scope=ADMIN, problems=(TransactionalIdNotFound, InvalidTxnState))
async def abort_transaction(id: str, log: Log) -> None:
    """Aborts what is open, and fences its producer: whatever that one still sends is refused."""
    if TRANSACTION_STATE not in log.engine.topics:
        raise TransactionalIdNotFound(f"There is no transactional id {id!r}")
    await log.transactions.abort(id)


@routes.get("/cluster")
async def cluster(log: Log) -> ClusterView:
    """The nodes, and what they hold."""
    engine = log.engine
    partitions = [partition for one in engine.topics.values() for partition in one.partitions]
    size_bytes = 0
    failed: list[str] = []
    for at, partition in enumerate(partitions):
        size_bytes += partition.size_bytes
        if partition.failure is not None and len(failed) < FAILED_SHOWN:
            failed.append(partition.name)
        if at % 1_000 == 999:
            await asyncio.sleep(0)
    brokers = [BrokerView(engine.node_id, True)]
    policy = engine.settings.flush_policy.value
    return ClusterView(engine.cluster_id, brokers, len(engine.topics), len(partitions), size_bytes, policy, failed)


def _own(log: Log, name: str) -> Topic:
    """The topic, which people may change. Raises `UnknownPartition`, and `InvalidTopic` for one of the log's own."""
    found = topic_of(log.engine, name)
    if found.internal:
        raise InvalidTopic(f"{name!r} is the log's own")
    return found


def _produced(positions: Iterable[Position]) -> Produced:
    return Produced([PlaceView(one.partition, one.offset) for one in positions])


def _check_changes(log: Log, topic: Topic, changes: Mapping[str, str | None]) -> None:
    """Raises `InvalidConfig` before anything else of a request is done."""
    for name in changes:
        if name not in SETTINGS:
            raise InvalidConfig(f"there is no topic setting {name!r}", setting=name)
    given = {**topic.config.given, **changes}
    kept = {name: value for name, value in given.items() if value is not None}
    TopicConfig(kept, default_values(log.engine.settings.topic))


def _page(names: Iterable[str], query: PageQuery, *asked: Any) -> Page[str]:
    after = NAMED.open(query.cursor, *asked)
    rest = nsmallest(query.limit + 1, (name for name in names if after is None or name > after))
    return NAMED.page(rest, query.limit, lambda name: name, *asked)
