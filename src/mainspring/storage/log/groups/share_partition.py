"""One partition of a share group: which record is with whom, how often it was given out, and what is done with (KIP-932).

A record is AVAILABLE, ACQUIRED by one member until its lock ends, or done with: ACKNOWLEDGED, or ARCHIVED (rejected, a gap, or
given out too often). The window from the first record that is not done with to the last that was given out holds a bounded
number of records, so each has an entry of its own. Locks are not written down: after a restart what was acquired is available
again with its count. Pure: the time comes in, `changes` goes out to be written.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import Any

import msgspec

from mainspring.storage.log.coordinator_errors import InvalidRequest
from mainspring.storage.log.groups.errors import InvalidRecordState


class DeliveryState(IntEnum):
    """The numbers are those of Kafka's records."""

    AVAILABLE = 0
    ACQUIRED = 1
    ACKNOWLEDGED = 2
    ARCHIVED = 4


class Acknowledge(IntEnum):
    GAP = 0
    ACCEPT = 1
    RELEASE = 2
    REJECT = 3
    RENEW = 4


DONE = (DeliveryState.ACKNOWLEDGED, DeliveryState.ARCHIVED)


class InFlight(msgspec.Struct):
    state: DeliveryState = DeliveryState.AVAILABLE
    deliveries: int = 0
    member: str = ""
    locked_until_ms: int = 0
    due_ms: int = 0
    """When it may be given out first."""


class Acquired(msgspec.Struct, frozen=True):
    """Records `first` to `last` are the member's now, each for the `deliveries`-th time."""

    first: int
    last: int
    deliveries: int


class SharePartition:
    """`start`: everything before is done with. `end`: nothing from here on was given out. `records` holds what is between."""

    def __init__(self, start: int, *, lock_ms: int, deliveries_max: int, in_flight_max: int) -> None:
        self.start = self.end = start
        self.records: dict[int, InFlight] = {}
        self.lock_ms = lock_ms
        self.deliveries_max = deliveries_max
        self.in_flight_max = in_flight_max
        self.state_epoch = 0
        self.snapshot_epoch = 0
        self.updates = 0
        self.counted = 0
        """How many records of it are in the sum of all."""
        self.worn: list[int] = []
        """Given out as often as may be, and in vain; whoever buries them empties this."""
        self._changed: dict[int, None] = {}
        self._told_start = start

    # What members do

    def next_offset(self, now_ms: int) -> int | None:
        """From where to read for the next acquisition; None while nothing may be given out."""
        for offset in range(self.start, self.end):
            found = self.records[offset]
            if found.state is DeliveryState.AVAILABLE and found.due_ms <= now_ms:
                return offset
        return self.end if self.end - self.start < self.in_flight_max else None

    def acquire(
        self,
        member: str,
        batches: Iterable[tuple[int, int]],
        records_max: int,
        now_ms: int,
        *,
        strictly: bool = False,
        due_ms: Mapping[int, int] = MappingProxyType({}),
    ) -> list[Acquired]:
        """Gives the member what is available in `batches` (first and last offset of each), in order.

        At most `records_max`, where not `strictly` to the end of a batch; never more than the window holds. Records in
        `due_ms` are not given out before then.
        """
        taken: list[tuple[int, int]] = []
        for first, last in batches:
            for offset in range(max(first, self.start), last + 1):
                if strictly and len(taken) >= records_max:
                    return _runs(taken)
                if offset >= self.end and not self._reach(offset):
                    return _runs(taken)
                found = self.records[offset]
                found.due_ms = due_ms.get(offset, 0)
                if found.state is not DeliveryState.AVAILABLE or found.due_ms > now_ms:
                    continue
                found.state, found.member = DeliveryState.ACQUIRED, member
                found.deliveries += 1
                found.locked_until_ms = now_ms + self.lock_ms
                taken.append((offset, found.deliveries))
            if len(taken) >= records_max:
                break
        self._advance()
        return _runs(taken)

    def acknowledge(self, member: str, first: int, last: int, kinds: Sequence[int], now_ms: int) -> None:
        """What the member says of its records: one kind for all, or one for each.

        Raises `InvalidRequest` for a range or kinds that make no sense and `InvalidRecordState` where a record is not the
        member's, having changed nothing.
        """
        count = last - first + 1
        if count < 1 or count > self.in_flight_max or len(kinds) not in (1, count):
            raise InvalidRequest("an acknowledgement batch names a range, and one kind for all or for each of it")
        if any(kind not in Acknowledge.__members__.values() for kind in kinds):
            raise InvalidRequest("an acknowledgement is 0 to 4")
        for offset in range(first, last + 1):
            found = self.records.get(offset)
            if found is None or found.state is not DeliveryState.ACQUIRED or found.member != member:
                raise InvalidRecordState(f"record {offset} is not the member's")
        for place, offset in enumerate(range(first, last + 1)):
            kind = Acknowledge(kinds[place] if len(kinds) > 1 else kinds[0])
            if kind is Acknowledge.RENEW:
                self.records[offset].locked_until_ms = now_ms + self.lock_ms
            elif kind is Acknowledge.RELEASE:
                self._release(offset)
            else:
                self._finish(
                    offset, DeliveryState.ACKNOWLEDGED if kind is Acknowledge.ACCEPT else DeliveryState.ARCHIVED
                )
        self._advance()

    def pass_over(self, batches: Iterable[tuple[int, int]]) -> None:
        """Nobody shall get what is in these: it is of an aborted transaction."""
        for first, last in batches:
            for offset in range(max(first, self.start), last + 1):
                if offset >= self.end and not self._reach(offset):
                    return
                if self.records[offset].state is DeliveryState.AVAILABLE:
                    self._finish(offset, DeliveryState.ARCHIVED)
                self._advance()

    def skip(self, first: int, last: int) -> None:
        """The log holds no record in this range: compacted away."""
        for offset in range(max(first, self.start), min(last + 1, self.end)):
            if self.records[offset].state is DeliveryState.AVAILABLE:
                self._finish(offset, DeliveryState.ARCHIVED)
        self._advance()

    def release(self, member: str) -> None:
        """The member has gone: what it holds is available again."""
        for offset, found in self.records.items():
            if found.state is DeliveryState.ACQUIRED and found.member == member:
                self._release(offset)
        self._advance()

    def expire(self, now_ms: int) -> None:
        """Takes back what was locked until now."""
        for offset, found in self.records.items():
            if found.state is DeliveryState.ACQUIRED and found.locked_until_ms <= now_ms:
                self._release(offset)
        self._advance()

    def next_ms(self, now_ms: int) -> int | None:
        """When the next lock ends, or the next record that is held back may be given out."""
        times = [one.locked_until_ms for one in self.records.values() if one.state is DeliveryState.ACQUIRED]
        times += [
            one.due_ms for one in self.records.values() if one.state is DeliveryState.AVAILABLE and one.due_ms > now_ms
        ]
        return min(times, default=None)

    def done(self) -> int:
        """How many records of the window are done with."""
        return sum(one.state in DONE for one in self.records.values())

    def reset(self, start: int) -> None:
        """An administrator's: begins anew at `start`."""
        self.start = self.end = start
        self.records.clear()
        self._changed.clear()
        self.state_epoch += 1

    def truncate(self, log_start: int) -> None:
        """What the log no longer holds is done with."""
        if log_start > self.start:
            for offset in range(self.start, min(log_start, self.end)):
                self.records.pop(offset, None)
                self._changed.pop(offset, None)
            self.start, self.end = log_start, max(self.end, log_start)
            self._advance()

    # The log

    def changes(self) -> list[dict[str, Any]] | None:
        """What has changed since the last time, as runs of a state; None: nothing that must be written. What was finished at
        the front is in none of them: `start` alone tells of it."""
        if not self._changed and self.start == self._told_start:
            return None
        changed, self._changed = self._changed, {}
        self._told_start = self.start
        return _batches((offset, self.records[offset]) for offset in sorted(changed) if offset in self.records)

    def everything(self) -> list[dict[str, Any]]:
        """All that a snapshot holds."""
        self._changed.clear()
        self._told_start = self.start
        return _batches(self.records.items())

    def restore(self, start: int, batches: Iterable[Any], *, whole: bool) -> None:
        """Takes over what a record of the log says."""
        if whole:
            self.start = self.end = start
            self.records.clear()
        for one in batches:
            for offset in range(max(one["first_offset"], start), one["last_offset"] + 1):
                while self.end <= offset:
                    self.records[self.end] = InFlight()
                    self.end += 1
                self.records[offset] = InFlight(DeliveryState(one["state"]), one["deliveries"])
        self.truncate(start)
        self._changed.clear()
        self._told_start = self.start

    # Inside

    def _reach(self, offset: int) -> bool:
        """Makes the window end behind `offset`, where it has the room."""
        if offset - self.start >= self.in_flight_max:
            return False
        for gap in range(self.end, offset + 1):
            self.records[gap] = InFlight()
            if gap < offset:
                self._finish(gap, DeliveryState.ARCHIVED)  # no batch holds it: compacted away
        self.end = offset + 1
        return True

    def _release(self, offset: int) -> None:
        found = self.records[offset]
        found.member = ""
        self._changed[offset] = None
        worn = found.deliveries >= self.deliveries_max
        found.state = DeliveryState.ARCHIVED if worn else DeliveryState.AVAILABLE
        if worn:
            self.worn.append(offset)

    def _finish(self, offset: int, state: DeliveryState) -> None:
        found = self.records[offset]
        found.state, found.member = state, ""
        self._changed[offset] = None

    def _advance(self) -> None:
        while self.start < self.end and self.records[self.start].state in DONE:
            del self.records[self.start]
            self.start += 1


def _runs(taken: Sequence[tuple[int, int]]) -> list[Acquired]:
    runs: list[Acquired] = []
    for offset, deliveries in taken:
        if runs and runs[-1].last == offset - 1 and runs[-1].deliveries == deliveries:
            runs[-1] = Acquired(runs[-1].first, offset, deliveries)
        else:
            runs.append(Acquired(offset, offset, deliveries))
    return runs


def _batches(records: Iterable[tuple[int, InFlight]]) -> list[dict[str, Any]]:
    batches: list[dict[str, Any]] = []
    for offset, found in records:
        # A lock does not outlive the process: what is acquired is written as available.
        state = DeliveryState.AVAILABLE if found.state is DeliveryState.ACQUIRED else found.state
        last = batches[-1] if batches else None
        if (
            last
            and last["last_offset"] == offset - 1
            and (last["state"], last["deliveries"]) == (state, found.deliveries)
        ):
            last["last_offset"] = offset
        else:
            batches.append(
                {"first_offset": offset, "last_offset": offset, "state": int(state), "deliveries": found.deliveries}
            )
    return batches
