"""How settings are shown to Kafka's tools: each with its value, where that comes from, its type and what it means."""

from collections.abc import Iterator, Mapping
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


def topic_entries(config: Any) -> Iterator[ConfigEntry]:
    """The settings of a topic by name. What was set for it alone, what the operator set for all, Kafka's default."""
    for name, setting in sorted(SETTINGS.items()):
        synonyms: list[tuple[str, str | None, int]] = []
        if name in config.given:
            synonyms.append((name, config.given[name], DYNAMIC_TOPIC))
        synonyms.append((name, setting.default, DEFAULT))
        value, source = synonyms[0][1:]
        yield ConfigEntry(name, value, source, setting.kind, setting.help, tuple(synonyms))


def plain_entries(
    known: Mapping[str, tuple[str, str, str]], own: Mapping[str, str], source: int
) -> Iterator[ConfigEntry]:
    """The settings of another resource: `known` maps a name to its default, type and help; `own` holds what was set."""
    for name, (default, kind, help) in sorted(known.items()):
        synonyms: list[tuple[str, str | None, int]] = []
        if name in own:
            synonyms.append((name, own[name], source))
        synonyms.append((name, default, DEFAULT))
        yield ConfigEntry(name, synonyms[0][1], synonyms[0][2], kind, help, tuple(synonyms))
