"""The topics as a group sees them: names, ids and how many partitions there are."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Protocol
from uuid import UUID


class Shape(Protocol):
    """What a group needs of a topic of the engine."""

    @property
    def id(self) -> UUID: ...

    @property
    def partitions(self) -> Sequence[Any]: ...

    @property
    def internal(self) -> bool: ...


class Catalog:
    """A view of `topics`, which may change under it."""

    def __init__(self, topics: Mapping[str, Shape]) -> None:
        self._topics = topics

    def __contains__(self, name: object) -> bool:
        return name in self._topics

    def shape(self, names: Iterable[str]) -> dict[UUID, int]:
        """How many partitions each of `names` has that exists."""
        return {topic.id: len(topic.partitions) for name in names if (topic := self._topics.get(name)) is not None}

    def id(self, name: str) -> UUID | None:
        topic = self._topics.get(name)
        return None if topic is None else topic.id

    def name(self, id: UUID) -> str | None:
        return next((name for name, topic in self._topics.items() if topic.id == id), None)

    def count(self, name: str) -> int:
        topic = self._topics.get(name)
        return 0 if topic is None else len(topic.partitions)

    def names(self) -> list[str]:
        """All that a regular expression may match: what is internal is read only by name."""
        return [name for name, topic in self._topics.items() if not topic.internal]


def digest(shape: Mapping[UUID, int]) -> int:
    """A signed 64-bit number that is another one when a topic of `shape` came, went or grew."""
    hashed = blake2b(digest_size=8)
    for id in sorted(shape, key=lambda one: one.bytes):
        hashed.update(id.bytes + shape[id].to_bytes(4, "big"))
    return int.from_bytes(hashed.digest(), "big", signed=True) if shape else 0
