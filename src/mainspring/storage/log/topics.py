"""Topics: their names, ids and settings, and the file that each is written down in.

A topic exists when its file does, `topics/<id>.json` in the first directory, written whole and durably: what was made or
renamed for it before a crash without the file is a leftover.
"""

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec

from .errors import InvalidTopic
from .files import Files, read_all, replace
from .partition import Partition
from .settings import TopicConfig

NAME_MAX = 249
INTERNAL = frozenset({"__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"})

_NAME = re.compile(r"[a-zA-Z0-9._-]+")


class TopicRecord(msgspec.Struct, frozen=True):
    """What is written down of a topic. `config` holds what was given for it alone."""

    name: str
    id: UUID
    partitions: int
    config: dict[str, str]


class Topic:
    """A topic and its partitions; `internal` ones belong to the coordinators."""

    __slots__ = ("config", "id", "internal", "name", "partitions")

    def __init__(self, name: str, id: UUID, config: TopicConfig) -> None:
        self.name = name
        self.id = id
        self.config = config
        self.partitions: list[Partition] = []
        self.internal = name in INTERNAL

    def record(self, **changes: Any) -> TopicRecord:
        whole = TopicRecord(self.name, self.id, len(self.partitions), self.config.given)
        return msgspec.structs.replace(whole, **changes)


def check_name(name: str, taken: Mapping[str, str]) -> None:
    """Raises `InvalidTopic`. `taken` maps folded names to the topics that have them."""
    if not name or name in (".", ".."):
        raise InvalidTopic(f"{name!r} is no topic name")
    if len(name) > NAME_MAX:
        raise InvalidTopic(f"a topic name has at most {NAME_MAX} characters, not {len(name)}")
    if not _NAME.fullmatch(name):
        raise InvalidTopic(f"{name!r}: only letters, digits, '.', '_' and '-'")
    other = taken.get(folded(name))
    if other is not None and other != name:
        raise InvalidTopic(f"{name!r} would be one with {other!r} where '.' and '_' are not told apart")


def folded(name: str) -> str:
    """Two names with the same cannot both be: metrics do not tell '.' and '_' apart."""
    return name.replace(".", "_")


class TopicFiles:
    """The files of all topics."""

    def __init__(self, files: Files, directory: str) -> None:
        self._files = files
        self._folder = f"{directory}/topics"

    def prepare(self, directory: str) -> None:
        self._files.make_folder(self._folder)
        self._files.sync_folder(directory)

    def read(self) -> list[TopicRecord]:
        """All of them. Raises `msgspec.DecodeError` for a file that is none."""
        records = []
        for name in self._files.names(self._folder):
            path = f"{self._folder}/{name}"
            if name.endswith(".tmp"):
                self._files.delete(path)
            else:
                records.append(msgspec.json.decode(read_all(self._files, path), type=TopicRecord))
        return records

    def write(self, record: TopicRecord) -> None:
        replace(self._files, self._path(record.id), msgspec.json.encode(record))

    def delete(self, id: UUID) -> None:
        self._files.delete(self._path(id))
        self._files.sync_folder(self._folder)

    def _path(self, id: UUID) -> str:
        return f"{self._folder}/{id.hex}.json"
