"""Incremental fetch sessions (KIP-227): a consumer says what it wants once, then only what changes.

A session is a set of partitions and an epoch that grows by one with every request, so that a lost or repeated one is noticed.
There are 1,000 slots; a new session takes that of one unused for two minutes, and where there is none the consumer is served
without, saying everything each time.
"""

from collections import OrderedDict
from collections.abc import Iterable
from random import Random
from typing import Final
from uuid import UUID

import msgspec

from mainspring.core.clock import Clock

FINAL_EPOCH: Final = -1
FIRST_EPOCH: Final = 0
EPOCH_MAX: Final = 2**31 - 1
EVICTION_NS: Final = 120_000_000_000
SESSION_NOT_FOUND, INVALID_EPOCH, TOPIC_ID_ERROR = 70, 71, 106

TopicKey = str | UUID


class Wanted(msgspec.Struct, gc=False):
    """One partition that is fetched, and what the client was last told of it."""

    topic: TopicKey
    index: int
    offset: int
    bytes_max: int
    leader_epoch: int
    last_fetched_epoch: int
    told_high_watermark: int = -1
    told_log_start: int = -1


class FetchSession(msgspec.Struct):
    id: int
    by_id: bool
    epoch: int
    used_ns: int
    partitions: dict[tuple[TopicKey, int], Wanted]

    def sent(self, wanted: Wanted) -> None:
        """Moves a partition whose records were sent behind the others, so that all get their turn."""
        key = (wanted.topic, wanted.index)
        held = self.partitions.pop(key, None)
        if held is not None:
            self.partitions[key] = held


class Turn(msgspec.Struct, gc=False):
    """What one request fetches. `incremental`: only what changed is answered. `error_code` is for the whole answer."""

    wanted: list[Wanted]
    session: FetchSession | None = None
    incremental: bool = False
    error_code: int = 0

    @property
    def session_id(self) -> int:
        return self.session.id if self.session is not None else 0


class FetchSessions:
    def __init__(self, clock: Clock, random: Random, sessions_max: int) -> None:
        self._clock = clock
        self._random = random
        self._sessions_max = sessions_max
        self._sessions: OrderedDict[int, FetchSession] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def turn(
        self,
        session_id: int,
        epoch: int,
        wanted: list[Wanted],
        forgotten: Iterable[tuple[TopicKey, int]],
        *,
        by_id: bool,
    ) -> Turn:
        """Where a request stands: in its session, at the beginning of one, or in none."""
        if epoch in (FINAL_EPOCH, FIRST_EPOCH):
            self._sessions.pop(session_id, None)
            if epoch == FINAL_EPOCH or not wanted:
                return Turn(wanted)
            return Turn(wanted, self._new(wanted, by_id))
        session = self._sessions.get(session_id)
        if session is None:
            return Turn([], error_code=SESSION_NOT_FOUND)
        if session.epoch != epoch:
            return Turn([], error_code=INVALID_EPOCH)
        if session.by_id != by_id:
            return Turn([], error_code=TOPIC_ID_ERROR)
        session.epoch = 1 if epoch == EPOCH_MAX else epoch + 1
        session.used_ns = self._clock.mono_ns()
        self._sessions.move_to_end(session_id)
        for one in wanted:
            held = session.partitions.get((one.topic, one.index))
            if held is not None:
                one.told_high_watermark, one.told_log_start = held.told_high_watermark, held.told_log_start
            session.partitions[one.topic, one.index] = one
        for key in forgotten:
            session.partitions.pop(key, None)
        return Turn(list(session.partitions.values()), session, incremental=True)

    def _new(self, wanted: list[Wanted], by_id: bool) -> FetchSession | None:
        now_ns = self._clock.mono_ns()
        if len(self._sessions) >= self._sessions_max:
            oldest = next(iter(self._sessions.values()), None)
            if oldest is None or now_ns - oldest.used_ns < EVICTION_NS:
                return None
            del self._sessions[oldest.id]
        while (id := self._random.randrange(1, 2**31)) in self._sessions:
            pass
        partitions = {(one.topic, one.index): one for one in wanted}
        session = self._sessions[id] = FetchSession(id, by_id, 1, now_ns, partitions)
        return session
