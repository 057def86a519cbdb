"""A member of a consumer group: what it asked for, where it is on its way there, and until when it is believed alive."""

import msgspec

from mainspring.storage.log.groups.messages import Client
from mainspring.storage.log.groups.reconcile import Current
from mainspring.storage.log.groups.turn import NEVER_MS


class ClassicMembership(msgspec.Struct, frozen=True):
    """What a member that speaks the classic protocol said when it joined."""

    session_timeout_ms: int
    protocols: tuple[tuple[str, bytes], ...]


class ConsumerMember(msgspec.Struct, kw_only=True):
    id: str
    instance: str | None = None
    rack: str | None = None
    client: Client = Client()
    rebalance_timeout_ms: int = -1
    topics: frozenset[str] = frozenset()
    regex: str | None = None
    assignor: str | None = None
    classic: ClassicMembership | None = None
    connection: int = -1
    """The newest that a heartbeat came by."""
    current: Current = Current()
    session_ms: int = NEVER_MS
    """When it is taken for dead."""
    revoked_by_ms: int = NEVER_MS
    """When it must have given up what it was told to."""
    sync_by_ms: int = NEVER_MS
    """Where it speaks the classic protocol: when it must have fetched what it was assigned."""
