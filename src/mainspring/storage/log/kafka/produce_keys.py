"""Produce: records in. The hottest request, so that both its sides are done by hand.

The frame is cut with views and the batches go to the engine as they are; offsets are given as the request is read, in its
order, and the answer waits for the durability that `acks` asks for. Versions below 3 are listed, because librdkafka releases in
use switch compression off without, but a real one is answered UNSUPPORTED_VERSION in its own form.
"""

import asyncio
import struct
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from mainspring.storage.log.errors import LogError
from mainspring.storage.log.kafka import produce_single
from mainspring.storage.log.kafka.acls import Operation, Resource
from mainspring.storage.log.kafka.codec import Malformed
from mainspring.storage.log.kafka.quotas import PRODUCE
from mainspring.storage.log.kafka.refusals import Disconnect, NotAuthorized, UnknownTopicId
from mainspring.storage.log.kafka.registry import Answer, ApiKey, Context, Later, Raw, handles
from mainspring.storage.log.kafka.varints import compact_string, get_varint, put_varint, skip_tags

if TYPE_CHECKING:
    from mainspring.storage.log.partition import Partition

INVALID_REQUIRED_ACKS, UNSUPPORTED_VERSION, TRANSACTIONAL_ID_AUTHORIZATION_FAILED, INVALID_RECORD = 21, 35, 53, 87
IMPLICIT_ADD_VERSION = 12

_ACKS = struct.Struct(">hi")
_LENGTH = struct.Struct(">i")
_INDEX_LENGTH = struct.Struct(">ii")
_SHORT = struct.Struct(">h")
_PART = struct.Struct(">ihqqq")
_HEAD = struct.Struct(">ii")
_TRANSACTIONAL = 0x10


class Part(NamedTuple):
    """The records for one partition. `topic` is its name, or its id from version 13 on."""

    topic: str | bytes
    partition: int
    records: memoryview | None


class Placed(NamedTuple):
    """What became of one part: `code` 0, or why not."""

    code: int
    base_offset: int = -1
    append_time_ms: int = -1
    log_start: int = -1
    message: str | None = None
    batch_index: int | None = None


class Asked(NamedTuple):
    transactional_id: str | None
    acks: int
    parts: list[Part]


def read(frame: memoryview, at: int, version: int) -> Asked:
    """A Produce request. Raises `Malformed`."""
    try:
        return _read_flexible(frame, at, version) if version >= 9 else _read_plain(frame, at, version)
    except (struct.error, IndexError, ValueError) as error:
        raise Malformed(f"Produce: {error}") from None


def _read_flexible(frame: memoryview, at: int, version: int) -> Asked:
    transactional_id, at = compact_string(frame, at)
    acks, _timeout_ms = _ACKS.unpack_from(frame, at)
    topics, at = get_varint(frame, at + 6)
    parts: list[Part] = []
    end = len(frame)
    for _ in range(topics - 1):
        name: str | bytes | None
        if version >= 13:
            name, at = bytes(frame[at : at + 16]), at + 16
        else:
            name, at = compact_string(frame, at)
        count, at = get_varint(frame, at)
        if name is None:
            raise ValueError("a topic without a name")
        for _ in range(count - 1):
            (index,) = _LENGTH.unpack_from(frame, at)
            size, at = get_varint(frame, at + 4)
            after = at + max(size - 1, 0)
            if after > end:
                raise ValueError("records longer than the frame")
            parts.append(Part(name, index, frame[at:after] if size else None))
            at = after + 1 if not frame[after] else skip_tags(frame, after)
        at = at + 1 if not frame[at] else skip_tags(frame, at)
    skip_tags(frame, at)
    return Asked(transactional_id, acks, parts)


def _read_plain(frame: memoryview, at: int, version: int) -> Asked:
    transactional_id = None
    if version >= 3:
        transactional_id, at = _short_string(frame, at)
    acks, _timeout_ms = _ACKS.unpack_from(frame, at)
    (topics,) = _LENGTH.unpack_from(frame, at + 6)
    at += 10
    parts: list[Part] = []
    for _ in range(topics):
        name, at = _short_string(frame, at)
        (count,) = _LENGTH.unpack_from(frame, at)
        at += 4
        if name is None:
            raise ValueError("a topic without a name")
        for _ in range(count):
            index, size = _INDEX_LENGTH.unpack_from(frame, at)
            at += 8
            after = at + max(size, 0)
            if after > len(frame):
                raise ValueError("records longer than the frame")
            parts.append(Part(name, index, frame[at:after] if size >= 0 else None))
            at = after
    return Asked(transactional_id, acks, parts)


def _short_string(frame: memoryview, at: int) -> tuple[str | None, int]:
    (size,) = _SHORT.unpack_from(frame, at)
    at += 2
    if size < 0:
        return None, at
    after = at + size
    if after > len(frame):
        raise ValueError("a string longer than the frame")
    return str(frame[at:after], "utf-8"), after


def write(
    version: int, correlation_id: int, placed: list[tuple[str | bytes, int, Placed]], throttle_ms: int
) -> bytearray:
    """The answer: consecutive parts of one topic stand together."""
    out = bytearray(4)
    out += _LENGTH.pack(correlation_id)
    flexible = version >= 9
    groups: list[tuple[str | bytes, list[tuple[int, Placed]]]] = []
    for topic, index, one in placed:
        if not groups or groups[-1][0] != topic:
            groups.append((topic, []))
        groups[-1][1].append((index, one))
    if flexible:
        out.append(0)
        put_varint(out, len(groups) + 1)
    else:
        out += _LENGTH.pack(len(groups))
    for topic, parts in groups:
        _write_topic(out, version, topic, parts)
    if version >= 1:
        out += _LENGTH.pack(throttle_ms)
    if flexible:
        out.append(0)
    _LENGTH.pack_into(out, 0, len(out) - 4)
    return out


def _write_topic(out: bytearray, version: int, topic: str | bytes, parts: list[tuple[int, Placed]]) -> None:
    flexible = version >= 9
    if isinstance(topic, bytes):
        out += topic
    else:
        name = topic.encode()
        if flexible:
            put_varint(out, len(name) + 1)
        else:
            out += _SHORT.pack(len(name))
        out += name
    if flexible:
        put_varint(out, len(parts) + 1)
    else:
        out += _LENGTH.pack(len(parts))
    for index, one in parts:
        packed = _PART.pack(index, one.code, one.base_offset, one.append_time_ms, one.log_start)
        out += packed if version >= 5 else packed[: 22 if version >= 2 else 14]
        if version >= 8:
            _write_errors(out, one, flexible)
        if flexible:
            out.append(0)
    if flexible:
        out.append(0)


def _write_errors(out: bytearray, one: Placed, flexible: bool) -> None:
    """The batches that were refused, and why."""
    message = None if one.message is None else one.message.encode()
    if not flexible:
        if one.batch_index is None:
            out += _LENGTH.pack(0)
        else:
            out += _INDEX_LENGTH.pack(1, one.batch_index) + b"\xff\xff"
        out += b"\xff\xff" if message is None else _SHORT.pack(len(message)) + message
        return
    if one.batch_index is None:
        out.append(1)
    else:
        out += b"\x02" + _LENGTH.pack(one.batch_index) + b"\0\0"
    if message is None:
        out.append(0)
    else:
        put_varint(out, len(message) + 1)
        out += message


def _refuse(frame: memoryview, asked: int, context: Context) -> Answer:
    """A client of before 2017: every part is refused, in the form that it reads."""
    if not 0 <= asked < 3:
        raise Disconnect(f"Produce has no version {asked}")
    from mainspring.storage.log.kafka import codec

    _, at = codec.client(frame, flexible=False)
    request = read(frame, at, asked)
    if request.acks == 0:
        raise Disconnect("acks=0 of a version that is not accepted")
    refused = Placed(UNSUPPORTED_VERSION)
    return write(asked, context.correlation_id, [(part.topic, part.partition, refused) for part in request.parts], 0)


@handles(ApiKey.PRODUCE, range(3, 14), listed=range(14), raw=True, refuse=_refuse)
def produce(request: Raw, context: Context) -> Answer | Awaitable[Answer | None] | Later | None:
    frame, at, version, broker = request.frame, request.at, context.api_version, context.broker
    if broker.quotas.limited:
        wait_ms = broker.quotas.charge(PRODUCE, context.principal, context.client_id, len(frame))
        context.throttle_ms = max(context.throttle_ms, wait_ms)
    if version >= 9 and (found := produce_single.find(frame, at, version, broker.produce_shapes)) is not None:
        return _single(*found, context)
    asked = read(frame, at, version)
    if version >= 9 and len(asked.parts) == 1:
        part = asked.parts[0]
        produce_single.remember(frame, at, version, broker.produce_shapes, part.topic, part.partition, asked.acks)
    return Production(asked, context).begin()


def _single(shape: produce_single.Shape, records: memoryview, context: Context) -> Answer | Later:
    try:
        appending = partition_of(context, shape.topic, shape.partition).append(records, acks=shape.acks)
    except LogError as error:
        return _single_failed(shape, context, error)
    if appending.settled and appending.error is None:
        return produce_single.written(shape, context, appending)
    single = produce_single.Single(shape, context, appending, _single_failed)
    appending.when_durable(single.durable)
    return single


def _single_failed(shape: produce_single.Shape, context: Context, error: LogError) -> bytearray:
    failed = Placed(error.kafka_code, message=error.detail, batch_index=error.batch_index)
    parts = [(shape.topic, shape.partition, failed)]
    return write(context.api_version, context.correlation_id, parts, context.throttle_ms)


def partition_of(context: Context, topic: str | bytes, index: int) -> "Partition":
    """The partition of a topic's name or id, where the client may write to it. Raises a `LogError`."""
    engine, security = context.broker.engine, context.broker.security
    if isinstance(topic, str):
        name = topic
    else:
        found = engine.topic_by_id(UUID(bytes=topic))
        if found is None:
            raise UnknownTopicId
        name = found.name
    if not security.is_open(context.session) and not context.allows(Operation.WRITE, Resource.TOPIC, name):
        raise NotAuthorized
    return engine.partition(name, index)


class Production(Later):
    """One request on its way: what was refused at once, and what is being made durable."""

    __slots__ = ("_asked", "_context", "_left", "_placed")

    def __init__(self, asked: Asked, context: Context) -> None:
        self._asked = asked
        self._context = context
        self._placed: list[tuple[str | bytes, int, Any]] = []
        self._left = 0

    def begin(self) -> Answer | Awaitable[Answer | None] | Later | None:
        asked, context = self._asked, self._context
        refusal = self._refusal()
        transactions = context.broker.transactions
        admissions: dict[int, Awaitable[None]] = {}
        for part in asked.parts:
            try:
                partition = partition_of(context, part.topic, part.partition)
                if refusal is not None:
                    self._placed.append((part.topic, part.partition, refusal))
                    continue
                if transactions is not None and _is_transactional(part.records):
                    # Without an id nobody would ever end what it opens: the coordinator refuses it.
                    admission = transactions.admit(
                        asked.transactional_id or "",
                        *_producer(part.records),
                        partition.topic.name,
                        part.partition,
                        implicit=context.api_version >= IMPLICIT_ADD_VERSION,
                    )
                    if admission is not None:
                        admissions[len(self._placed)] = admission
                records = part.records
                if not records:
                    raise Empty
                appending = partition.append(records, acks=asked.acks)
            except LogError as error:
                failed = Placed(error.kafka_code, message=error.detail, batch_index=error.batch_index)
                self._placed.append((part.topic, part.partition, failed))
                continue
            self._placed.append((part.topic, part.partition, appending))
        if admissions:
            return self._admitted(admissions)
        return self._wait()

    async def _admitted(self, admissions: dict[int, Awaitable[None]]) -> Answer | None:
        """The partitions' part in the transaction must be recorded before the client hears of its records."""
        outcomes = await asyncio.gather(*admissions.values(), return_exceptions=True)
        for place, outcome in zip(admissions, outcomes, strict=True):
            if isinstance(outcome, LogError):
                topic, index, _ = self._placed[place]
                self._placed[place] = (topic, index, Placed(outcome.kafka_code, message=outcome.detail))
            elif isinstance(outcome, BaseException):
                raise outcome
        answer = self._wait()
        if not isinstance(answer, Later):
            return answer
        done: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        answer.then = lambda value: None if done.done() else done.set_result(value)
        return await done

    def _refusal(self) -> Placed | None:
        """What holds for the whole request."""
        asked, context = self._asked, self._context
        if asked.acks not in (-1, 0, 1):
            return Placed(INVALID_REQUIRED_ACKS)
        if asked.transactional_id is not None and not context.allows(
            Operation.WRITE, Resource.TRANSACTIONAL_ID, asked.transactional_id
        ):
            return Placed(TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
        return None

    def _wait(self) -> "bytearray | Production | None":
        if self._asked.acks == 0:
            if any(isinstance(one, Placed) for _, _, one in self._placed):
                raise Disconnect("acks=0, and records were refused: the client can only learn it so")
            return None
        pending = [one for _, _, one in self._placed if not isinstance(one, Placed) and not one.settled]
        if not pending:
            return self._written()
        self._left = len(pending)
        for one in pending:
            one.when_durable(self._durable)
        return self

    def _durable(self) -> None:
        self._left -= 1
        if not self._left:
            self.then(self._written())

    def _written(self) -> bytearray:
        placed = []
        for topic, index, one in self._placed:
            if not isinstance(one, Placed):
                error = one.error
                if error is None:
                    one = Placed(0, one.base_offset, one.log_append_time_ms, one.log_start)
                else:
                    one = Placed(error.kafka_code, message=error.detail)
            placed.append((topic, index, one))
        context = self._context
        return write(context.api_version, context.correlation_id, placed, context.throttle_ms)


class Empty(LogError):
    kafka_code = INVALID_RECORD
    status, type, title = 422, "log/empty", "A part of the request holds no records"


def _is_transactional(records: memoryview | None) -> bool:
    return records is not None and len(records) >= 61 and bool(records[22] & _TRANSACTIONAL)


def _producer(records: memoryview | None) -> tuple[int, int]:
    """Producer id and epoch of the first batch."""
    assert records is not None
    producer_id, epoch = struct.unpack_from(">qh", records, 43)
    return producer_id, epoch
