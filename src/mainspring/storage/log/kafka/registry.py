"""Which requests are answered, in which versions, and by what.

    @handles(ApiKey.HEARTBEAT, versions=range(0, 5))
    async def heartbeat(request, context):
        return {"error_code": 0}

A handler takes the request with kio's names for its fields (of exactly the version that came, so a field of later versions
only is read by `given(request, "name", default)`) and a `Context`. It gives the answer's fields as a mapping with kio's names,
written by the schema of that version: what the version lacks is left out, what is not given takes the schema's default,
durations are integers under the name with `_ms` (`throttle_time_ms`, filled in by the connection where not given), error codes
and enums any integer, UUIDs `uuid.UUID` or None. Or it gives the answer's bytes, packed by hand, as one or several buffers.

A plain function answers at once, without a task, and may give a future of the answer or a `Later`; None sends nothing. An
`async def` runs as a task, which goes on when its client has gone. As in Kafka a request of a connection begins when the one
before is answered, Produce excepted. A handler that raises a `LogError` is answered with its `kafka_code` where the answer has
a code at its top; anything else that is raised is a fault of ours and is answered UNKNOWN_SERVER_ERROR there, else the
connection is closed.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

if TYPE_CHECKING:
    from mainspring.storage.log.kafka.broker import Broker
    from mainspring.storage.log.kafka.session import Session

Buffers: TypeAlias = Sequence[bytes | bytearray | memoryview]
Answer: TypeAlias = Mapping[str, Any] | bytes | bytearray | Buffers


class Later:
    """An answer that is not there yet: the connection sets `then`, which is called with it once, on the loop. It costs less
    than a future, of which a busy producer would need one per request."""

    __slots__ = ("then",)

    then: Callable[[Any], None]


Handler: TypeAlias = Callable[[Any, "Context"], Answer | Awaitable[Answer | None] | Later | None]


class ApiKey(IntEnum):
    """The keys of Kafka 4.2 that a client may send; the controllers' own are not among them."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    DESCRIBE_GROUPS = 15
    LIST_GROUPS = 16
    SASL_HANDSHAKE = 17
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_TOPICS = 20
    DELETE_RECORDS = 21
    INIT_PRODUCER_ID = 22
    OFFSET_FOR_LEADER_EPOCH = 23
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    WRITE_TXN_MARKERS = 27
    TXN_OFFSET_COMMIT = 28
    DESCRIBE_ACLS = 29
    CREATE_ACLS = 30
    DELETE_ACLS = 31
    DESCRIBE_CONFIGS = 32
    ALTER_CONFIGS = 33
    ALTER_REPLICA_LOG_DIRS = 34
    DESCRIBE_LOG_DIRS = 35
    SASL_AUTHENTICATE = 36
    CREATE_PARTITIONS = 37
    CREATE_DELEGATION_TOKEN = 38
    RENEW_DELEGATION_TOKEN = 39
    EXPIRE_DELEGATION_TOKEN = 40
    DESCRIBE_DELEGATION_TOKEN = 41
    DELETE_GROUPS = 42
    ELECT_LEADERS = 43
    INCREMENTAL_ALTER_CONFIGS = 44
    ALTER_PARTITION_REASSIGNMENTS = 45
    LIST_PARTITION_REASSIGNMENTS = 46
    OFFSET_DELETE = 47
    DESCRIBE_CLIENT_QUOTAS = 48
    ALTER_CLIENT_QUOTAS = 49
    DESCRIBE_USER_SCRAM_CREDENTIALS = 50
    ALTER_USER_SCRAM_CREDENTIALS = 51
    DESCRIBE_QUORUM = 55
    UPDATE_FEATURES = 57
    DESCRIBE_CLUSTER = 60
    DESCRIBE_PRODUCERS = 61
    DESCRIBE_TRANSACTIONS = 65
    LIST_TRANSACTIONS = 66
    CONSUMER_GROUP_HEARTBEAT = 68
    CONSUMER_GROUP_DESCRIBE = 69
    GET_TELEMETRY_SUBSCRIPTIONS = 71
    PUSH_TELEMETRY = 72
    LIST_CONFIG_RESOURCES = 74
    DESCRIBE_TOPIC_PARTITIONS = 75
    SHARE_GROUP_HEARTBEAT = 76
    SHARE_GROUP_DESCRIBE = 77
    SHARE_FETCH = 78
    SHARE_ACKNOWLEDGE = 79
    STREAMS_GROUP_HEARTBEAT = 88
    STREAMS_GROUP_DESCRIBE = 89
    DESCRIBE_SHARE_GROUP_OFFSETS = 90
    ALTER_SHARE_GROUP_OFFSETS = 91
    DELETE_SHARE_GROUP_OFFSETS = 92


Refusal: TypeAlias = Callable[[memoryview, int, "Context"], Answer]
"""Given the frame, the version that was asked for, and a context of the nearest one that is answered."""


class Raw(msgspec.Struct, gc=False):
    """A request that its handler reads itself: its body begins at `at`."""

    frame: memoryview
    at: int


class Entry(msgspec.Struct, frozen=True):
    """One key of the table: the versions that are answered, and by what. `listed` is what ApiVersions says. A `raw` handler is
    given a `Raw`. `refuse` answers a version that is not answered otherwise."""

    key: ApiKey
    versions: range
    handler: Handler
    listed: range
    raw: bool = False
    refuse: Refusal | None = None


class Context(msgspec.Struct, gc=False):
    """What a handler knows beside the request. `principal` is `User:alice`, or `User:ANONYMOUS` without authentication;
    `address` the client's IP address. A handler may set `throttle_ms`, for which the connection is then muted, and
    `then_close`."""

    broker: "Broker"
    session: "Session"
    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None
    throttle_ms: int = 0
    then_close: bool = False

    @property
    def principal(self) -> str:
        return self.session.principal

    @property
    def address(self) -> str:
        return self.session.address

    def allows(self, operation: int, resource: int, name: str) -> bool:
        """Whether the client may do `operation` to a resource (`acls.Operation`, `acls.Resource`)."""
        return self.broker.security.allows(self.session, operation, resource, name)


_table: dict[int, Entry] = {}


def handles(
    key: ApiKey,
    versions: range,
    *,
    listed: range | None = None,
    raw: bool = False,
    refuse: Refusal | None = None,
) -> Callable[[Handler], Handler]:
    """Registers a handler; a key has one. The arguments are those of `Entry`."""

    def register(handler: Handler) -> Handler:
        if key in _table:
            raise ValueError(f"two handlers for {key.name}")
        _table[int(key)] = Entry(key, versions, handler, listed or versions, raw, refuse)
        return handler

    return register


def table() -> Mapping[int, Entry]:
    """Every key that is answered, once the files of handlers have been imported."""
    from mainspring.storage.log.kafka import handlers

    handlers.load()
    return _table


def given(request: Any, name: str, default: Any = None) -> Any:
    """A field that not every version of a request has."""
    return getattr(request, name, default)
