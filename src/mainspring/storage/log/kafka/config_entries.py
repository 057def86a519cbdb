"""How settings are shown to Kafka's tools: each with its value, where that comes from, its type and what it means."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from mainspring.storage.log.settings import SETTINGS

DYNAMIC_TOPIC, DYNAMIC_BROKER, DYNAMIC_DEFAULT_BROKER, STATIC_BROKER, DEFAULT, CLIENT_METRICS, GROUP = (
    1,
    2,
    3,
    4,
    5,
    7,
    8,
)
TYPES = {
    "BOOLEAN": 1, "STRING": 2, "INT": 3, "SHORT": 4, "LONG": 5, "DOUBLE": 6, "LIST": 7, "CLASS": 8, "PASSWORD": 9,
}  # fmt: skip


BROKER_NAMES = {
    "cleanup.policy": "log.cleanup.policy",
    "compression.gzip.level": "compression.gzip.level",
    "compression.lz4.level": "compression.lz4.level",
    "compression.type": "compression.type",
    "compression.zstd.level": "compression.zstd.level",
    "delete.retention.ms": "log.cleaner.delete.retention.ms",
    "file.delete.delay.ms": "log.segment.delete.delay.ms",
    "flush.messages": "log.flush.interval.messages",
    "index.interval.bytes": "log.index.interval.bytes",
    "local.retention.bytes": "log.local.retention.bytes",
    "local.retention.ms": "log.local.retention.ms",
    "max.compaction.lag.ms": "log.cleaner.max.compaction.lag.ms",
    "max.message.bytes": "message.max.bytes",
    "message.timestamp.after.max.ms": "log.message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms": "log.message.timestamp.before.max.ms",
    "message.timestamp.type": "log.message.timestamp.type",
    "min.cleanable.dirty.ratio": "log.cleaner.min.cleanable.ratio",
    "min.compaction.lag.ms": "log.cleaner.min.compaction.lag.ms",
    "min.insync.replicas": "min.insync.replicas",
    "preallocate": "log.preallocate",
    "retention.bytes": "log.retention.bytes",
    "segment.bytes": "log.segment.bytes",
    "segment.index.bytes": "log.index.size.max.bytes",
    "unclean.leader.election.enable": "unclean.leader.election.enable",
}
"""What a topic's setting is called where it holds for all; those that have no such name show none."""

SETTABLE_NAMES = BROKER_NAMES | {"retention.ms": "log.retention.ms", "segment.ms": "log.roll.ms"}
"""The same, with those that have several, of which Kafka shows another as their default."""


class ConfigEntry(msgspec.Struct, frozen=True):
    """One setting of a resource. `synonyms` are (name, value, source), what holds first."""

    name: str
    value: str | None
    source: int
    kind: str
    help: str
    synonyms: tuple[tuple[str, str | None, int], ...] = ()
    read_only: bool = False
    is_sensitive: bool = False

    def described(self, *, synonyms: bool, documentation: bool) -> dict[str, Any]:
        """As DescribeConfigs answers it."""
        return {
            "name": self.name,
            "value": self.value,
            "read_only": self.read_only,
            "config_source": self.source,
            "is_default": self.source == DEFAULT,
            "is_sensitive": self.is_sensitive,
            "synonyms": [
                {"name": name, "value": value, "source": source} for name, value, source in self.synonyms if synonyms
            ],
            "config_type": TYPES[self.kind],
            "documentation": self.help if documentation else None,
        }


Layers = Sequence[tuple[Mapping[str, str], int]]
"""What has been set by name, and where; what holds first."""


def topic_entries(config: Any, dynamic: Layers, for_all: Mapping[str, str]) -> Iterator[ConfigEntry]:
    """The settings of a topic by name: what was set for it alone, what was set for all (`dynamic` by the broker's names,
    `for_all` at the start by the topic's), Kafka's default."""
    for name, setting in sorted(SETTINGS.items()):
        broker_name, settable_name = BROKER_NAMES.get(name), SETTABLE_NAMES.get(name)
        synonyms: list[tuple[str, str | None, int]] = []
        if name in config.given:
            synonyms.append((name, config.given[name], DYNAMIC_TOPIC))
        if settable_name is not None:
            synonyms += [
                (settable_name, held[settable_name], source) for held, source in dynamic if settable_name in held
            ]
        if name in for_all:
            synonyms.append((broker_name or name, for_all[name], STATIC_BROKER))
        value, source = (synonyms[0][1], synonyms[0][2]) if synonyms else (setting.default, DEFAULT)
        if broker_name is not None:
            synonyms.append((broker_name, setting.default, DEFAULT))
        yield ConfigEntry(name, value, source, setting.kind, setting.help, tuple(synonyms))


def plain_entries(
    known: Mapping[str, tuple[str, str, str]], own: Mapping[str, str], source: int
) -> Iterator[ConfigEntry]:
    """The settings of another resource: `known` maps a name to its default, type and help; `own` holds what was set."""
    return layered_entries(known, ((own, source),), lambda name: True)


def layered_entries(
    known: Mapping[str, tuple[str, str, str]], layers: Layers, is_dynamic: Callable[[str], bool]
) -> Iterator[ConfigEntry]:
    """The same where several may have set them; what is not dynamic is shown as read-only."""
    for name, (default, kind, help) in sorted(known.items()):
        synonyms = [(name, held[name], source) for held, source in layers if name in held]
        synonyms.append((name, default, DEFAULT))
        yield ConfigEntry(
            name, synonyms[0][1], synonyms[0][2], kind, help, tuple(synonyms), read_only=not is_dynamic(name)
        )
