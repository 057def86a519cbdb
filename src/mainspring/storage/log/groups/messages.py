"""What is asked of the coordinators and what they answer: plain data, the same from the wire and from this process.

Absent strings are None; an empty member id means "not yet a member", as in Kafka. `Partitions` maps a topic's id to its
partitions' numbers.
"""

from collections.abc import Mapping
from uuid import UUID

import msgspec

Partitions = dict[UUID, frozenset[int]]
TopicPartition = tuple[str, int]


class Client(msgspec.Struct, frozen=True):
    """Who is asking, for the lists that people read."""

    id: str = ""
    host: str = ""


class JoinGroup(msgspec.Struct, frozen=True, kw_only=True):
    """`two_steps`: a member without an id is first told one, and joins with it (JoinGroup from version 4 on)."""

    group: str
    member_id: str
    instance: str | None = None
    client: Client = Client()
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: tuple[tuple[str, bytes], ...]
    two_steps: bool = True
    skips_assignment: bool = True


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """`members` (id, instance, metadata) is filled for the leader alone."""

    generation: int
    protocol_type: str | None
    protocol: str | None
    leader: str
    member_id: str
    members: tuple[tuple[str, str | None, bytes], ...] = ()
    skip_assignment: bool = False


class SyncGroup(msgspec.Struct, frozen=True, kw_only=True):
    """`assignments` comes from the leader alone. `protocol_type` and `protocol` are checked where given."""

    group: str
    member_id: str
    instance: str | None = None
    generation: int
    protocol_type: str | None = None
    protocol: str | None = None
    assignments: tuple[tuple[str, bytes], ...] = ()


class Synced(msgspec.Struct, frozen=True):
    protocol_type: str | None
    protocol: str | None
    assignment: bytes


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    group: str
    member_id: str
    instance: str | None = None
    generation: int


class Leaving(msgspec.Struct, frozen=True):
    member_id: str
    instance: str | None = None


class LeaveGroup(msgspec.Struct, frozen=True, kw_only=True):
    group: str
    members: tuple[Leaving, ...]


class ConsumerHeartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """None: not changed since the last one. `member_epoch` 0 joins, -1 leaves, -2 leaves for a while (a static member).

    `connection` is the place of the connection it came by in the order of all, -1 for none: see `ConsumerGroup`.
    """

    group: str
    member_id: str
    member_epoch: int
    instance: str | None = None
    rack: str | None = None
    client: Client = Client()
    rebalance_timeout_ms: int = -1
    topics: tuple[str, ...] | None = None
    regex: str | None = None
    assignor: str | None = None
    owned: Partitions | None = None
    connection: int = -1


class ConsumerBeat(msgspec.Struct, frozen=True, kw_only=True):
    """`assigned` None: as before."""

    member_id: str
    member_epoch: int
    heartbeat_interval_ms: int
    assigned: Partitions | None = None


class ShareHeartbeat(msgspec.Struct, frozen=True, kw_only=True):
    group: str
    member_id: str
    member_epoch: int
    rack: str | None = None
    client: Client = Client()
    topics: tuple[str, ...] | None = None


class Offset(msgspec.Struct, frozen=True):
    """A committed position: the next offset to read."""

    offset: int
    leader_epoch: int = -1
    metadata: str = ""
    committed_at_ms: int = -1
    topic_id: UUID | None = None


class OffsetCommit(msgspec.Struct, frozen=True, kw_only=True):
    """`generation` is a member epoch in a consumer group; -1 with an empty member id: no member, an empty group only.

    `producer_id` at least 0: the offsets are part of that producer's transaction and count when it commits.
    """

    group: str
    member_id: str = ""
    instance: str | None = None
    generation: int = -1
    offsets: Mapping[TopicPartition, Offset]
    producer_id: int = -1
    producer_epoch: int = -1
    knows_epochs: bool = True


class OffsetFetch(msgspec.Struct, frozen=True, kw_only=True):
    """`partitions` None: all that the group has. `stable`: refuse where an open transaction may still change one."""

    group: str
    member_id: str = ""
    member_epoch: int = -1
    partitions: tuple[TopicPartition, ...] | None = None
    stable: bool = False


class OffsetDelete(msgspec.Struct, frozen=True, kw_only=True):
    group: str
    partitions: tuple[TopicPartition, ...]


class GroupDelete(msgspec.Struct, frozen=True, kw_only=True):
    group: str
