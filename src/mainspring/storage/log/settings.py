"""What can be set: the log's own section, and every topic's configuration under Kafka's names.

A topic's value is its own where it was given, else the section's, else Kafka's default. Values are parsed once, when they are
set, and refused then.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from .codecs import NAMES, Codec
from .errors import InvalidConfig


class FlushPolicy(StrEnum):
    """When an append is acknowledged: after its bytes are on the disk, or (as Kafka does) in the page cache."""

    COMMIT = "commit"
    ASYNC = "async"


class LogSettings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Section `[log]`: the engine's."""

    flush_policy: Annotated[
        FlushPolicy,
        Meta(
            description="commit: an acknowledgement means synced to the disk. async: it means in the page cache, as Kafka"
        ),
    ] = FlushPolicy.COMMIT
    node_id: Annotated[int, Meta(ge=0, description="Number of this node in its cluster")] = 1
    partitions_max: Annotated[int, Meta(ge=1, le=1_000_000, description="Partitions that this node may hold")] = 100_000
    queue_bytes_max: Annotated[
        int, Meta(ge=1 << 20, description="Bytes that may wait for the disk; more is refused and may be tried again")
    ] = 256 << 20
    cache_bytes_max: Annotated[
        int, Meta(ge=0, description="Newest batches kept in memory, all partitions together")
    ] = 8 << 20
    cache_partition_bytes_max: Annotated[int, Meta(ge=0, description="Newest batches kept in memory per partition")] = (
        1 << 20
    )
    open_files_max: Annotated[int, Meta(ge=16, description="Files kept open")] = 1_024
    journal_bytes: Annotated[
        int, Meta(ge=1 << 16, description="Size at which the commit journal of a directory is started anew")
    ] = 64 << 20
    journal_files_min: Annotated[
        int,
        Meta(ge=1, description="A commit of more files than this goes through the journal and costs one sync"),
    ] = 4
    checkpoint_interval_ms: Annotated[
        int, Meta(ge=100, description="How often what a restart need not read again is written down")
    ] = 60_000
    retention_check_interval_ms: Annotated[int, Meta(ge=10, description="How often old segments are looked for")] = (
        300_000
    )
    cleaner_interval_ms: Annotated[int, Meta(ge=10, description="How often compaction looks for work")] = 15_000
    cleaner_dedupe_bytes: Annotated[int, Meta(ge=1 << 12, description="Memory of compaction's map of keys")] = 128 << 20
    producer_id_expiration_ms: Annotated[
        int, Meta(ge=1, description="How long a producer that sends nothing is remembered")
    ] = 86_400_000
    producers_per_partition_max: Annotated[
        int, Meta(ge=1, description="Producers remembered per partition; beyond it the longest silent is forgotten")
    ] = 100_000
    topic: Annotated[dict[str, str], Meta(description="Defaults of topics, by Kafka's names of topic settings")] = (
        msgspec.field(default_factory=dict)
    )


class Setting(msgspec.Struct, frozen=True):
    """How a topic setting is read and shown. `kind` is Kafka's name of its type."""

    default: str
    parse: Callable[[str], Any]
    kind: str
    help: str


def _integer(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if not lowest <= number <= highest:
            raise ValueError(f"must be between {lowest} and {highest}")
        return number

    return parse


def _ratio(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise ValueError("must be between 0 and 1")
    return number


def _truth(text: str) -> bool:
    match text.strip().lower():
        case "true":
            return True
        case "false":
            return False
    raise ValueError("must be true or false")


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return parse


def _policies(text: str) -> frozenset[str]:
    found = frozenset(part.strip() for part in text.split(",") if part.strip())
    if not found <= {"compact", "delete"}:
        raise ValueError("must be compact, delete or both")
    return found


def _throttled(text: str) -> str:
    if text and text != "*" and not all(part.strip().replace(":", "").isdigit() for part in text.split(",")):
        raise ValueError("must be a list of partition:broker, or *")
    return text


_LONG = (1 << 63) - 1
_INT = (1 << 31) - 1
_COMPRESSIONS = ("producer", *NAMES)

SETTINGS: dict[str, Setting] = {
    "cleanup.policy": Setting("delete", _policies, "LIST", "What becomes of old records: deleted, compacted, or both"),
    "compression.gzip.level": Setting("-1", _integer(-1, 9), "INT", "Level of gzip where the topic recompresses"),
    "compression.lz4.level": Setting("9", _integer(1, 17), "INT", "Level of lz4 where the topic recompresses"),
    "compression.type": Setting("producer", _choice(*_COMPRESSIONS), "STRING", "Codec of stored batches, or producer"),
    "compression.zstd.level": Setting("3", _integer(-131_072, 22), "INT", "Level of zstd where the topic recompresses"),
    "delete.retention.ms": Setting(
        "86400000", _integer(0, _LONG), "LONG", "How long a tombstone stays after compaction"
    ),
    "file.delete.delay.ms": Setting("60000", _integer(0, _LONG), "LONG", "How long a deleted file stays on the disk"),
    "flush.messages": Setting(str(_LONG), _integer(1, _LONG), "LONG", "Sync after this many records, where async"),
    "flush.ms": Setting(str(_LONG), _integer(0, _LONG), "LONG", "Sync after this time, where async"),
    "follower.replication.throttled.replicas": Setting("", _throttled, "LIST", "Followers whose copying is throttled"),
    "index.interval.bytes": Setting("4096", _integer(0, _INT), "INT", "Bytes between two entries of an index"),
    "leader.replication.throttled.replicas": Setting("", _throttled, "LIST", "Leaders whose copying is throttled"),
    "local.retention.bytes": Setting("-2", _integer(-2, _LONG), "LONG", "Bytes kept here of a tiered topic"),
    "local.retention.ms": Setting("-2", _integer(-2, _LONG), "LONG", "Time kept here of a tiered topic"),
    "max.compaction.lag.ms": Setting(
        str(_LONG), _integer(1, _LONG), "LONG", "A record is compacted at the latest then"
    ),
    "max.message.bytes": Setting("1048588", _integer(0, _INT), "INT", "Largest batch that is accepted"),
    "message.timestamp.after.max.ms": Setting(
        "3600000", _integer(0, _LONG), "LONG", "How far ahead a record's time may be"
    ),
    "message.timestamp.before.max.ms": Setting(
        str(_LONG), _integer(0, _LONG), "LONG", "How old a record's time may be"
    ),
    "message.timestamp.type": Setting(
        "CreateTime", _choice("CreateTime", "LogAppendTime"), "STRING", "Whose clock gives a record its time"
    ),
    "min.cleanable.dirty.ratio": Setting(
        "0.5", _ratio, "DOUBLE", "Share of new bytes from which on compaction is worth it"
    ),
    "min.compaction.lag.ms": Setting("0", _integer(0, _LONG), "LONG", "A record is not compacted before"),
    "min.insync.replicas": Setting("1", _integer(1, _INT), "INT", "Replicas that must have a record before it counts"),
    "preallocate": Setting("false", _truth, "BOOLEAN", "Accepted for compatibility; files grow as they are written"),
    "remote.storage.enable": Setting("false", _truth, "BOOLEAN", "Whether closed segments go to object storage"),
    "remote.copy.disable": Setting("false", _truth, "BOOLEAN", "Whether tiering is paused"),
    "remote.log.delete.on.disable": Setting("false", _truth, "BOOLEAN", "Whether ending tiering deletes what is there"),
    "retention.bytes": Setting("-1", _integer(-1, _LONG), "LONG", "Bytes kept per partition; -1 for all"),
    "retention.ms": Setting("604800000", _integer(-1, _LONG), "LONG", "How long records are kept; -1 for ever"),
    "segment.bytes": Setting(str(64 << 20), _integer(14, _INT), "INT", "Size of a segment"),
    "segment.index.bytes": Setting("10485760", _integer(12, _INT), "INT", "Largest index of a segment"),
    "segment.jitter.ms": Setting("0", _integer(0, _LONG), "LONG", "Random time by which a segment is closed earlier"),
    "segment.ms": Setting("604800000", _integer(1, _LONG), "LONG", "Time after which a segment is closed"),
    "unclean.leader.election.enable": Setting("false", _truth, "BOOLEAN", "Whether a replica that lags may lead"),
}


class TopicConfig:
    """A topic's settings, parsed. `given` holds what was set for this topic alone, as it was written.

    Every setting is an attribute: Kafka's name with `_` for `.`. What each append asks is read once, here.
    """

    __slots__ = (
        "_values",
        "cleanup_policy",
        "codec",
        "codec_level",
        "given",
        "index_interval_bytes",
        "is_compacted",
        "is_deleted_by_age",
        "max_message_bytes",
        "message_timestamp_after_max_ms",
        "message_timestamp_before_max_ms",
        "segment_bytes",
        "segment_ms",
        "stamps",
    )

    def __init__(self, given: Mapping[str, str], defaults: Mapping[str, Any]) -> None:
        """`defaults` are parsed values, see `default_values`. Raises `InvalidConfig`, which names the setting."""
        self.given = dict(given)
        values = {**defaults} | {name: parsed(name, text) for name, text in given.items()} if given else defaults
        if values["max.compaction.lag.ms"] < values["min.compaction.lag.ms"]:
            raise InvalidConfig("max.compaction.lag.ms is below min.compaction.lag.ms")
        self._values = values
        self.cleanup_policy: frozenset[str] = values["cleanup.policy"]
        self.is_compacted = "compact" in self.cleanup_policy
        self.is_deleted_by_age = "delete" in self.cleanup_policy
        self.stamps: bool = values["message.timestamp.type"] == "LogAppendTime"
        self.codec: Codec | None = NAMES.get(values["compression.type"])
        level = f"compression.{values['compression.type']}.level"
        self.codec_level: int | None = values[level] if values.get(level, -1) != -1 else None
        self.max_message_bytes: int = values["max.message.bytes"]
        self.segment_bytes: int = values["segment.bytes"]
        self.segment_ms: int = values["segment.ms"]
        self.index_interval_bytes: int = values["index.interval.bytes"]
        self.message_timestamp_before_max_ms: int = values["message.timestamp.before.max.ms"]
        self.message_timestamp_after_max_ms: int = values["message.timestamp.after.max.ms"]

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name.replace("_", ".")]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, name: str) -> Any:
        """The value of a setting by Kafka's own name."""
        return self._values[name]


def parsed(name: str, text: str) -> Any:
    """Raises `InvalidConfig`."""
    setting = SETTINGS.get(name)
    if setting is None:
        raise InvalidConfig(f"there is no topic setting {name!r}", setting=name)
    try:
        return setting.parse(text)
    except ValueError as error:
        raise InvalidConfig(f"{name}={text!r}: {error}", setting=name) from error


def default_values(defaults: Mapping[str, str]) -> dict[str, Any]:
    """Every setting's value where a topic has none of its own. Raises `InvalidConfig`."""
    values = {name: parsed(name, setting.default) for name, setting in SETTINGS.items()}
    return values | {name: parsed(name, text) for name, text in defaults.items()}
