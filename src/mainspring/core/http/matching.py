"""Which route is meant by a path: a tree of literal and named segments.

A template is `/links/{id}/stats`; its last segment may be `{rest:path}`, which takes what is left, slashes and all. At each
segment a literal is preferred to a name and a name to the rest, from the left; where that leads nowhere the next is tried.
A named segment is never empty. Matching an unseen path costs about a microsecond however many templates there are.
"""

import re
from typing import Generic, TypeVar

T = TypeVar("T")

_NAMED = re.compile(r"\{([a-z_][a-z0-9_]*)(:path)?\}")


def names_of(template: str) -> tuple[str, ...]:
    """The names in a template, from the left. Raises `ValueError` for one that is not written as described above."""
    segments = template.split("/")
    if segments[0]:
        raise ValueError(f"{template!r} does not begin with a slash")
    names = []
    for position, segment in enumerate(segments):
        named = _NAMED.fullmatch(segment)
        if named is None:
            if "{" in segment or "}" in segment:
                raise ValueError(f"{template!r}: a name fills a whole segment")
            continue
        if named[2] and position != len(segments) - 1:
            raise ValueError(f"{template!r}: only the last segment can take the rest")
        if named[1] in names:
            raise ValueError(f"{template!r} has two values called {named[1]}")
        names.append(named[1])
    return tuple(names)


class _Node(Generic[T]):
    __slots__ = ("literals", "name", "rest", "value")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[T]] = {}
        self.name: _Node[T] | None = None
        self.rest: T | None = None
        self.value: T | None = None


class Matcher(Generic[T]):
    """Templates and the value of each."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._forks = False

    def add(self, template: str, value: T) -> None:
        """Adds `template`. Raises `ValueError` where it is malformed, or another one matches exactly the same paths."""
        if self.get(template) is not None:
            raise ValueError(f"two routes match exactly the paths of {template!r}")
        names_of(template)
        *segments, last = template.split("/")[1:]
        node = self._root
        for segment in segments:
            node = self._child(node, segment)
        if last.endswith(":path}"):
            node.rest = value
            self._forks = True
        else:
            self._child(node, last).value = value

    def get(self, template: str) -> T | None:
        """The value of a template that matches exactly the same paths (its names may differ), or None."""
        *segments, last = template.split("/")[1:]
        node = self._root
        for segment in segments:
            below = node.name if segment.startswith("{") else node.literals.get(segment)
            if below is None:
                return None
            node = below
        if last.endswith(":path}"):
            return node.rest
        leaf = node.name if last.startswith("{") else node.literals.get(last)
        return None if leaf is None else leaf.value

    def match(self, path: str) -> tuple[T, list[str]] | None:
        """The value of the template that `path` (decoded, without encoded slashes) belongs to, and its named values."""
        return self.match_segments(path[1:].split("/"))

    def match_segments(self, segments: list[str]) -> tuple[T, list[str]] | None:
        """Like `match` for a path that was split at its slashes, without the nothing before the first."""
        node = self._root
        values: list[str] = []
        for segment in segments:
            below = node.literals.get(segment)
            if below is None:
                below = node.name
                if below is None or not segment:
                    break
                values.append(segment)
            node = below
        else:
            if node.value is not None:
                return node.value, values
        return self._search(self._root, segments, 0, []) if self._forks else None

    def _search(
        self, node: _Node[T], segments: list[str], position: int, values: list[str]
    ) -> tuple[T, list[str]] | None:
        """Tries every way in order; where the first way of all has led nowhere."""
        if position == len(segments):
            return None if node.value is None else (node.value, values)
        segment = segments[position]
        literal = node.literals.get(segment)
        found = None if literal is None else self._search(literal, segments, position + 1, values)
        if found is None and node.name is not None and segment:
            found = self._search(node.name, segments, position + 1, [*values, segment])
        if found is None and node.rest is not None:
            found = node.rest, [*values, "/".join(segments[position:])]
        return found

    def _child(self, node: _Node[T], segment: str) -> _Node[T]:
        if segment.startswith("{"):
            if node.name is None:
                node.name = _Node()
            child = node.name
        else:
            child = node.literals.setdefault(segment, _Node())
        self._forks = self._forks or bool(node.literals and node.name is not None)
        return child
