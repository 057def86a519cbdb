"""Which operation a request means: its method, whether it names a bucket and a key, and the one query field that tells.

An operation is a row: its name as logs and metrics have it, the action that policies know it by, and the handler. Handlers
register themselves; the table is complete once the modules of handlers have been imported.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from mainspring.storage.objects.s3.errors import S3Error

if TYPE_CHECKING:
    from mainspring.storage.objects.s3.answers import Answer
    from mainspring.storage.objects.s3.call import Call

Level = Literal["service", "bucket", "object"]
Handler = Callable[["Call"], Awaitable["Answer"]]


class Operation(NamedTuple):
    """`action` is empty where the handler itself asks whether it is allowed (several keys, sources of copies, forms)."""

    name: str
    action: str
    handler: Handler


class _Place:
    """The operations of one method at one level: those that a query field tells, and the one without."""

    __slots__ = ("by_field", "plain")

    def __init__(self) -> None:
        self.plain: Operation | None = None
        self.by_field: dict[str, Operation] = {}


_TABLE: dict[tuple[str, str], _Place] = {}
NOT_OURS = frozenset(
    [
        "abac",
        "annotation",
        "metadataConfiguration",
        "metadataInventoryTable",
        "metadataJournalTable",
        "metadataTable",
        "restore",
        "select",
        "session",
        "torrent",
    ]
)
"""Subresources of S3 that are not here. Whoever asks for one must not get, or overwrite, the object itself."""

_CHOOSING: set[str] = set()
"""Query fields that choose an operation somewhere: where one stands that chooses nothing here, nothing else is done."""


def operation(method: str, level: Level, name: str, action: str = "", field: str = "") -> Callable[[Handler], Handler]:
    """Registers the decorated handler as `method` at `level`, told by the query field `field` where it has one."""

    def add(handler: Handler) -> Handler:
        place = _TABLE.setdefault((method, level), _Place())
        row = Operation(name, action, handler)
        if field:
            place.by_field[field] = row
            _CHOOSING.add(field)
        else:
            place.plain = row
        return handler

    return add


def find(method: str, level: Level, query: Mapping[str, str]) -> Operation:
    """The operation that is meant. Raises `MethodNotAllowed`, and `NotImplemented` for a subresource that is not ours."""
    place = _TABLE.get((method, level))
    if place is None:
        raise S3Error("MethodNotAllowed", Method=method[:20], ResourceType=level.upper())
    if query:
        by_field = place.by_field
        for field in query:
            if field in by_field:
                return by_field[field]
        if not NOT_OURS.isdisjoint(query):
            raise S3Error("NotImplemented", "This subresource is not implemented")
        if any(field in _CHOOSING for field in query):
            raise S3Error("MethodNotAllowed", Method=method, ResourceType=level.upper())
    if place.plain is None:
        raise S3Error("MethodNotAllowed", Method=method, ResourceType=level.upper())
    return place.plain
