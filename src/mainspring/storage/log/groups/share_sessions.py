"""Share sessions: what a member reads, so that it need not say so each time (KIP-932).

Each request names the session's epoch, one more than the one before, so that what is lost or doubled is noticed; a request by
an earlier connection than the one that opened the session is late, and refused whatever its epoch.
"""

from collections.abc import Iterable
from uuid import UUID

import msgspec

from mainspring.storage.log.coordinator_errors import InvalidRequest
from mainspring.storage.log.groups.errors import (
    InvalidShareSessionEpoch,
    ShareSessionLimitReached,
    ShareSessionNotFound,
)

OPENS, CLOSES = 0, -1
EPOCH_MAX = 0x7FFFFFFF

Slot = tuple[UUID, int]
MemberKey = tuple[str, str]
"""Group and member."""


class Session(msgspec.Struct):
    """`connection` is the place in the order of all of the one that opened it, -1 for none."""

    epoch: int = 1
    slots: dict[Slot, None] = {}
    connection: int = -1


class Sessions:
    """Those of a node, at most `sessions_max`, each of at most `slots_max` partitions."""

    def __init__(self, sessions_max: int, slots_max: int) -> None:
        self._sessions_max, self._slots_max = sessions_max, slots_max
        self._by_member: dict[MemberKey, Session] = {}

    def __len__(self) -> int:
        return len(self._by_member)

    def get(self, member: MemberKey) -> Session | None:
        return self._by_member.get(member)

    def drop(self, member: MemberKey) -> None:
        self._by_member.pop(member, None)

    def advance(
        self, member: MemberKey, epoch: int, slots: Iterable[Slot], forgotten: Iterable[Slot], connection: int
    ) -> Session:
        """The member's session at this epoch, with what it reads now. Raises where it is at another, not there, or too
        much."""
        found = self._by_member.get(member)
        if found is not None and -1 < connection < found.connection:
            raise InvalidShareSessionEpoch("a request of a connection that a later one has replaced")
        wanted = dict.fromkeys(slots)
        if len(wanted if found is None or epoch == OPENS else found.slots | wanted) > self._slots_max:
            raise InvalidRequest(f"A share session has at most {self._slots_max:,} partitions")
        if epoch == OPENS:
            if found is None and len(self._by_member) >= self._sessions_max:
                raise ShareSessionLimitReached
            self._by_member[member] = made = Session(slots=wanted, connection=connection)
            return made
        if found is None:
            raise ShareSessionNotFound
        if epoch == CLOSES:
            del self._by_member[member]
            return found
        if epoch != found.epoch:
            raise InvalidShareSessionEpoch
        found.epoch = epoch % EPOCH_MAX + 1
        found.slots.update(wanted)
        for slot in forgotten:
            found.slots.pop(slot, None)
        return found
