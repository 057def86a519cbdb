"""The markers that end a transaction in its partitions.

A marker carries the epoch that its producer has from now on. Written twice it changes nothing: a partition where the
producer is already at that epoch refuses it, which says that it stands.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mainspring.core.clock import Clock
from mainspring.core.crash import crash_point
from mainspring.storage.log.errors import InvalidProducerEpoch, UnknownPartition
from mainspring.storage.log.internal_topics import CONSUMER_OFFSETS
from mainspring.storage.log.model import Appending
from mainspring.storage.log.producers import Origin
from mainspring.storage.log.records import marker
from mainspring.storage.log.transaction_machine import Producer, Slot, Transaction

if TYPE_CHECKING:
    from mainspring.storage.log.engine import Engine
    from mainspring.storage.log.groups.service import Groups

log = logging.getLogger(__name__)
COORDINATOR_EPOCH = 0


class Markers:
    """Writes them, and tells the groups of those that stand in `__consumer_offsets`."""

    def __init__(self, engine: "Engine", groups: "Groups", clock: Clock) -> None:
        self._engine = engine
        self._groups = groups
        self._clock = clock

    async def write_all(self, producer: Producer, slots: set[Slot], *, commit: bool, raised: bool) -> set[Slot]:
        """Gives the partitions that took no marker."""
        outcomes = await asyncio.gather(
            *(self.write(producer, slot, commit=commit, raised=raised) for slot in sorted(slots)),
            return_exceptions=True,
        )
        left = set()
        for slot, outcome in zip(sorted(slots), outcomes, strict=True):
            if isinstance(outcome, InvalidProducerEpoch | UnknownPartition):
                continue  # it stands there already, or the topic is gone
            if isinstance(outcome, Exception):
                log.warning("%s-%d takes no marker yet: %s", *slot, outcome)
                left.add(slot)
            elif outcome is not None:
                raise outcome
        return left

    async def write(
        self,
        producer: Producer,
        slot: Slot,
        *,
        commit: bool,
        raised: bool,
        coordinator_epoch: int = COORDINATOR_EPOCH,
    ) -> None:
        partition = self._engine.partition(*slot)
        batch = marker(producer.id, producer.epoch, commit, coordinator_epoch, self._clock.wall_ns() // 1_000_000)
        appending = partition.append(
            batch, coordinator_epoch=coordinator_epoch, origin=Origin.COORDINATOR, bumped_epoch=raised
        )
        crash_point("log.transaction.marking")
        await appending.durable()
        if slot[0] == CONSUMER_OFFSETS:
            self._groups.ended(slot[1], producer.id, commit)

    async def end_unknown(self, known: Iterable[Transaction]) -> None:
        """Aborts records that no transaction knows of: theirs was lost with the crash that they survived."""
        by_producer = {found.producer_id: found for found in known}
        marked: list[tuple[Slot, int, Appending]] = []
        for topic in self._engine.topics.values():
            for partition in topic.partitions:
                slot = (topic.name, partition.index)
                for producer_id in tuple(partition.open_transactions):
                    found = by_producer.get(producer_id)
                    if found is None or slot not in found.slots:
                        log.warning("%s-%d holds records of a transaction that nobody knows: aborted", *slot)
                        epoch = partition.producers[producer_id].epoch
                        batch = marker(producer_id, epoch, False, COORDINATOR_EPOCH, self._clock.wall_ns() // 1_000_000)
                        marked.append((slot, producer_id, partition.append(batch, origin=Origin.COORDINATOR)))
        for slot, producer_id, appending in marked:
            await appending.durable()
            if slot[0] == CONSUMER_OFFSETS:
                self._groups.ended(slot[1], producer_id, False)
