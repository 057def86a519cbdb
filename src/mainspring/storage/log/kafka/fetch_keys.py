"""Fetch: records out, as whole batches in the very bytes that producers sent.

A request that finds less than `min_bytes` waits on the progress of its partitions, at most `max_wait`. One that asks for what
is not in memory waits for a thread that brings it in, so that nobody else waits for the disk. The answer is one list of
buffers: headers packed by hand, and between them what the engine holds in memory or has read, which nothing copies.
"""

import asyncio
import logging
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from mainspring.storage.log.errors import LogError, OffsetOutOfRange, StorageFailed
from mainspring.storage.log.kafka.acls import Operation, Resource
from mainspring.storage.log.kafka.codec import ms
from mainspring.storage.log.kafka.fetch_sessions import TopicKey, Turn, Wanted
from mainspring.storage.log.kafka.quotas import FETCH
from mainspring.storage.log.kafka.refusals import NotAuthorized, UnknownTopicId
from mainspring.storage.log.kafka.registry import ApiKey, Buffers, Context, Later, given, handles
from mainspring.storage.log.kafka.varints import put_varint

if TYPE_CHECKING:
    from mainspring.storage.log.partition import Partition

_log = logging.getLogger(__name__)
FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH = 74, 75
READ_COMMITTED = 1

_INT = struct.Struct(">i")
_SHORT = struct.Struct(">h")
_TOP = struct.Struct(">ihi")
_PART = struct.Struct(">ihqqq")
_ABORTED = struct.Struct(">qq")
_DIVERGING = struct.Struct(">iq")


class Found(NamedTuple):
    """What one partition gives. `aborted` None: the client did not ask. `diverging`: (epoch, end offset) where the client's
    last epoch parts from ours."""

    wanted: Wanted
    code: int = 0
    high_watermark: int = -1
    last_stable: int = -1
    log_start: int = -1
    aborted: list[tuple[int, int]] | None = None
    buffers: "Buffers" = ()
    size: int = 0
    diverging: tuple[int, int] | None = None

    @property
    def is_news(self) -> bool:
        """Whether a session has to be told."""
        told = self.wanted
        return bool(
            self.size
            or self.code
            or self.diverging
            or self.high_watermark != told.told_high_watermark
            or self.log_start != told.told_log_start
        )


@handles(ApiKey.FETCH, range(4, 19))
def fetch(request: Any, context: Context) -> "Buffers | Later":
    version = context.api_version
    wanted = [
        Wanted(
            (topic.topic_id or UUID(int=0)) if version >= 13 else topic.topic,
            one.partition,
            one.fetch_offset,
            one.partition_max_bytes,
            given(one, "current_leader_epoch", -1),
            given(one, "last_fetched_epoch", -1),
        )
        for topic in request.topics
        for one in topic.partitions
    ]
    if version >= 7:
        forgotten = [
            ((one.topic_id or UUID(int=0)) if version >= 13 else one.topic, index)
            for one in request.forgotten_topics_data
            for index in one.partitions
        ]
        sessions = context.broker.fetch_sessions
        turn = sessions.turn(request.session_id, request.session_epoch, wanted, forgotten, by_id=version >= 13)
    else:
        turn = Turn(wanted)
    return Fetching(request, turn, context).begin()


class Fetching(Later):
    """One request: reads, and waits where that was too little."""

    __slots__ = (
        "_cold", "_cold_bytes", "_context", "_endings", "_is_warm", "_looking", "_request", "_timer", "_turn", "_warming",
    )  # fmt: skip

    def __init__(self, request: Any, turn: Turn, context: Context) -> None:
        self._request = request
        self._turn = turn
        self._context = context
        self._endings: list[Any] = []
        self._looking = False
        self._timer: asyncio.TimerHandle | None = None
        self._cold: list[tuple[Partition, int, int]] = []
        """Partition, offset and bytes of what must be brought in first."""
        self._cold_bytes = 0
        self._is_warm = False
        self._warming: asyncio.Task[None] | None = None

    def begin(self) -> "Buffers | Fetching":
        found, size, settled = self._read()
        if self._cold:
            self._warming = asyncio.get_running_loop().create_task(self._warm())
            self._context.session.on_end = self._give_up
            return self
        wait_ms = ms(self._request.max_wait)
        if settled or wait_ms <= 0 or size >= self._request.min_bytes or not self._turn.wanted:
            return self._write(found, size)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(wait_ms / 1000, self._finish)
        for partition in self._partitions():
            self._endings.append(partition.on_progress(self._progressed))
        self._context.session.on_end = self._stop
        return self

    async def _warm(self) -> None:
        """Begins again when all is in memory; what cannot be is said by the read."""
        for partition, offset, bytes_max in self._cold:
            with suppress(OSError):
                await partition.warm(offset, bytes_max)
        self._cold.clear()
        self._cold_bytes = 0
        self._is_warm = True
        self._context.session.on_end = None
        answer = self.begin()
        if answer is not self:
            self.then(answer)

    def _give_up(self) -> None:
        """The client has gone."""
        if self._warming is not None:
            self._warming.cancel()

    def _partitions(self) -> list["Partition"]:
        """Those that can be waited for."""
        found = []
        for wanted in self._turn.wanted:
            try:
                found.append(self._partition(wanted))
            except LogError:
                continue
        return found

    def _progressed(self) -> None:
        """Looks once, however many partitions moved in this turn of the loop."""
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._looking = False
        if self._timer is None:
            return
        found, size, settled = self._read()
        if settled or size >= self._request.min_bytes:
            self._stop()
            self.then(self._write(found, size))

    def _finish(self) -> None:
        if self._timer is not None:
            self._stop()
            found, size, _ = self._read()
            self.then(self._write(found, size))

    def _stop(self) -> None:
        """Waits no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for end in self._endings:
            end()
        self._endings.clear()
        self._context.session.on_end = None

    def _partition(self, wanted: Wanted) -> "Partition":
        engine = self._context.broker.engine
        name = wanted.topic
        if isinstance(name, UUID):
            topic = engine.topic_by_id(name)
            if topic is None:
                raise UnknownTopicId
            name = topic.name
        if not self._context.allows(Operation.READ, Resource.TOPIC, name):
            raise NotAuthorized
        return engine.partition(name, wanted.index)

    def _read(self) -> tuple[list[Found], int, bool]:
        """What there is now, its bytes, and whether that must be answered however little it is."""
        request = self._request
        committed = request.isolation_level == READ_COMMITTED
        room = min(request.max_bytes, self._context.broker.settings.fetch_bytes_max)
        found: list[Found] = []
        size, settled = 0, bool(self._turn.error_code)
        for wanted in self._turn.wanted:
            try:
                left = min(wanted.bytes_max, room - size - self._cold_bytes)
                one = self._read_one(self._partition(wanted), wanted, left, size == 0, committed)
            except LogError as error:
                one = Found(wanted, error.kafka_code)
            except OSError as error:
                _log.error("cannot read %s-%d: %s", wanted.topic, wanted.index, error)
                one = Found(wanted, StorageFailed.kafka_code)
            size += one.size
            settled = settled or one.code != 0 or one.diverging is not None
            found.append(one)
        return found, size, settled

    def _read_one(self, partition: "Partition", wanted: Wanted, room: int, first: bool, committed: bool) -> Found:
        if wanted.leader_epoch >= 0 and wanted.leader_epoch != partition.leader_epoch:
            fenced = wanted.leader_epoch < partition.leader_epoch
            return Found(wanted, FENCED_LEADER_EPOCH if fenced else UNKNOWN_LEADER_EPOCH)
        high_watermark, last_stable, log_start = partition.high_watermark, partition.last_stable, partition.log_start
        aborted: list[tuple[int, int]] | None = [] if committed else None
        if wanted.last_fetched_epoch >= 0:
            epoch, end = partition.epoch_end(wanted.last_fetched_epoch)
            if epoch < 0 or wanted.last_fetched_epoch > partition.leader_epoch:
                raise OffsetOutOfRange
            if epoch < wanted.last_fetched_epoch or end < wanted.offset:
                return Found(wanted, 0, high_watermark, last_stable, log_start, aborted, diverging=(epoch, end))
        readable = last_stable if committed else high_watermark
        offset = wanted.offset
        if (log_start <= offset and readable <= offset <= partition.end) or (room <= 0 and not first):
            return Found(wanted, 0, high_watermark, last_stable, log_start, aborted)
        if not self._is_warm and log_start <= offset < readable and partition.cold(offset, max(room, 0)) is not None:
            self._cold.append((partition, offset, max(room, 0)))
            self._cold_bytes += max(room, 0)
            return Found(wanted, 0, high_watermark, last_stable, log_start, aborted)
        fetched = partition.read(offset, max(room, 0), committed=committed, at_least_one=first)
        return Found(
            wanted,
            0,
            high_watermark,
            last_stable,
            log_start,
            fetched.aborted if committed else None,
            fetched.buffers,
            fetched.size_bytes,
        )

    def _write(self, found: list[Found], size: int) -> "Buffers":
        context, turn = self._context, self._turn
        if turn.incremental:
            found = [one for one in found if one.is_news]
        for one in found:
            one.wanted.told_high_watermark, one.wanted.told_log_start = one.high_watermark, one.log_start
            if one.size and turn.session is not None:
                turn.session.sent(one.wanted)
        context.broker.fetched_bytes += size
        if context.broker.quotas.limited:
            wait_ms = context.broker.quotas.charge(FETCH, context.principal, context.client_id, size)
            context.throttle_ms = max(context.throttle_ms, wait_ms)
        return write(context, turn, found)


def write(context: Context, turn: Turn, found: list[Found]) -> list[Any]:
    """The answer as buffers; parts of one topic stand together."""
    version = context.api_version
    flexible = version >= 12
    groups: dict[TopicKey, list[Found]] = {}
    for one in found:
        groups.setdefault(one.wanted.topic, []).append(one)
    head = bytearray(4)
    head += _INT.pack(context.correlation_id)
    if flexible:
        head.append(0)
    if version >= 7:
        head += _TOP.pack(context.throttle_ms, turn.error_code, turn.session_id)
    else:
        head += _INT.pack(context.throttle_ms)
    _count(head, len(groups), flexible)
    out: list[Any] = [head]
    pieces = head
    size = 0
    for topic, parts in groups.items():
        _topic(pieces, topic, flexible)
        _count(pieces, len(parts), flexible)
        for one in parts:
            _part(pieces, one, version)
            if one.size:
                out.extend(one.buffers)
                size += one.size
                pieces = bytearray()
                out.append(pieces)
            if flexible:
                _tags(pieces, one)
        if flexible:
            pieces.append(0)
    if flexible:
        pieces.append(0)
    size += sum(len(piece) for piece in out if type(piece) is bytearray)
    _INT.pack_into(head, 0, size - 4)
    return out


def _count(out: bytearray, count: int, flexible: bool) -> None:
    if flexible:
        put_varint(out, count + 1)
    else:
        out += _INT.pack(count)


def _topic(out: bytearray, topic: TopicKey, flexible: bool) -> None:
    if isinstance(topic, UUID):
        out += topic.bytes
        return
    name = topic.encode()
    if flexible:
        put_varint(out, len(name) + 1)
    else:
        out += _SHORT.pack(len(name))
    out += name


def _part(out: bytearray, one: Found, version: int) -> None:
    """Up to where the records begin."""
    flexible = version >= 12
    packed = _PART.pack(one.wanted.index, one.code, one.high_watermark, one.last_stable, one.log_start)
    out += packed if version >= 5 else packed[:22]
    if one.aborted is None:
        out += b"\0" if flexible else b"\xff\xff\xff\xff"
    else:
        _count(out, len(one.aborted), flexible)
        for producer_id, first_offset in one.aborted:
            out += _ABORTED.pack(producer_id, first_offset)
            if flexible:
                out.append(0)
    if version >= 11:
        out += b"\xff\xff\xff\xff"
    _count(out, one.size, flexible)


def _tags(out: bytearray, one: Found) -> None:
    if one.diverging is None:
        out.append(0)
    else:
        out += b"\x01\x00\x0d" + _DIVERGING.pack(*one.diverging) + b"\0"
