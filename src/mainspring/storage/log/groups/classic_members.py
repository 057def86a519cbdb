"""A member of a classic group, and which protocol its members agree on."""

from collections.abc import Collection
from enum import Enum
from typing import Any

import msgspec

from mainspring.storage.log.groups.messages import Client
from mainspring.storage.log.groups.turn import NEVER_MS


class State(Enum):
    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


class Member(msgspec.Struct, kw_only=True):
    """`joining` and `syncing` are the tokens of requests that wait at the barrier."""

    id: str
    instance: str | None
    client: Client
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: tuple[tuple[str, bytes], ...]
    skips_assignment: bool = False
    assignment: bytes = b""
    joining: Any = None
    syncing: Any = None
    deadline_ms: int = NEVER_MS

    def metadata(self, protocol: str | None) -> bytes:
        return next((metadata for name, metadata in self.protocols if name == protocol), b"")

    def waits(self) -> bool:
        return self.joining is not None or self.syncing is not None


def common_protocols(members: Collection[Member]) -> set[str]:
    """What every one of them supports."""
    return set.intersection(*({name for name, _ in one.protocols} for one in members))


def elect_protocol(members: Collection[Member]) -> str:
    """Each member votes for the first of its list that all support."""
    common = common_protocols(members)
    votes: dict[str, int] = {}
    for member in members:
        choice = next(name for name, _ in member.protocols if name in common)
        votes[choice] = votes.get(choice, 0) + 1
    return max(votes, key=lambda name: votes[name])
