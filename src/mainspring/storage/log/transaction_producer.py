"""Transactions for Python in this process: a producer of a transactional id, and one transaction of it as a block.

Each end raises the producer's epoch, as for clients of the newest protocol, so whatever a cancelled or fenced block still does
comes too late and is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from mainspring.storage.log.coordinator_errors import CoordinatorError
from mainspring.storage.log.groups.member import Member
from mainspring.storage.log.groups.messages import OffsetCommit, TopicPartition
from mainspring.storage.log.records import build
from mainspring.storage.log.transaction_errors import InvalidTxnState
from mainspring.storage.log.transaction_machine import FOLLOWS_EPOCHS, Producer

if TYPE_CHECKING:
    from mainspring.storage.log.transactions import Transactions

log = logging.getLogger(__name__)
Fields = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes | None]], int]
"""Key, value, headers and the time in milliseconds UTC, -1 for now."""


class TransactionalProducer:
    """Made by `Transactions.producer`. One transaction at a time."""

    def __init__(
        self, transactions: Transactions, transactional_id: str, timeout_ms: int, producer: Producer, connection: int
    ) -> None:
        self.transactional_id = transactional_id
        self.current = producer
        self.connection = connection
        self.timeout_ms = timeout_ms
        self._transactions = transactions

    def transaction(self) -> OpenTransaction:
        return OpenTransaction(self._transactions, self.transactional_id, self.timeout_ms, self)


class OpenTransaction:
    """`async with` commits at the end of the block and aborts where it raises. Errors are `LogError`s; `ProducerFenced` says
    that another producer has the id now, and that nothing of this block counts."""

    def __init__(
        self, transactions: Transactions, transactional_id: str, timeout_ms: int, producer: TransactionalProducer | None
    ) -> None:
        self._transactions = transactions
        self._id = transactional_id
        self._timeout_ms = timeout_ms
        self._given = producer
        self._producer: TransactionalProducer | None = None
        self._sequences: dict[TopicPartition, int] = {}
        self._used = False

    async def __aenter__(self) -> OpenTransaction:
        self._producer = self._given or await self._transactions.producer(self._id, timeout_ms=self._timeout_ms)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._producer is None:
            return
        if kind is None:
            await self._end(commit=True)
            return
        try:
            await self._end(commit=False)
        except CoordinatorError:
            log.info("the transaction of %s is left to its timeout, or has ended", self._id)

    async def append(self, topic: str, partition: int, records: Iterable[Fields]) -> int:
        """Appends as one batch; gives its first offset when it is durable. Readers of committed data see it at the commit."""
        producer = self._open()
        now_ms = self._transactions.clock.wall_ns() // 1_000_000
        fields = [(now_ms if at_ms < 0 else at_ms, key, value, headers) for key, value, headers, at_ms in records]
        slot = (topic, partition)
        sequence = self._sequences.get(slot, 0)
        target = self._transactions.engine.partition(topic, partition)
        admission = self._transactions.admit(
            self._id, producer.current.id, producer.current.epoch, topic, partition, implicit=True
        )
        self._used = True
        batch = build(
            fields,
            producer_id=producer.current.id,
            epoch=producer.current.epoch,
            sequence=sequence,
            transactional=True,
        )
        appending = target.append(batch)
        self._sequences[slot] = sequence + len(fields) & 0x7FFFFFFF
        if admission is not None:
            await admission
        await appending.durable()
        return appending.base_offset

    async def commit_offsets(self, reader: Member | str, offsets: Mapping[TopicPartition, int]) -> None:
        """Makes a group's positions part of the transaction. Raises `GroupError` where the member lost its generation."""
        producer = self._open()
        groups = self._transactions.groups
        group = reader if isinstance(reader, str) else reader.group
        admission = self._transactions.admit_offsets(self._id, producer.current, group, implicit=True)
        self._used = True
        if admission is not None:
            await admission
        await groups.ask(
            OffsetCommit(
                group=group,
                member_id="" if isinstance(reader, str) else reader.member_id,
                generation=-1 if isinstance(reader, str) else reader.epoch,
                offsets=groups.offsets_now(offsets),
                producer_id=producer.current.id,
                producer_epoch=producer.current.epoch,
            )
        )

    async def abort(self) -> None:
        """Ends it here; nothing of it counts, and the block commits nothing."""
        self._open()
        await self._end(commit=False)

    def _open(self) -> TransactionalProducer:
        if self._producer is None:
            raise InvalidTxnState("the transaction has ended, or has not begun")
        return self._producer

    async def _end(self, *, commit: bool) -> None:
        producer, self._producer = self._open(), None
        if not self._used:
            return
        producer.current = await self._transactions.end(
            self._id, producer.current, commit=commit, version=FOLLOWS_EPOCHS, connection=producer.connection
        )
