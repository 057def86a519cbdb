"""Pages by cursor: the place where the last page ended, sealed to the query it belongs to.

A cursor is base64url of a version, a digest of the query that it continues, and a position. Another query, another sort
order, another version or another system's cursor is refused (400), and so never gives a wrong page. It hides nothing and
signs nothing: whoever forges a position reads, from another place, what the same query would have shown anyway.
"""

import binascii
from base64 import b64decode, urlsafe_b64encode
from hashlib import blake2b
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from mainspring.core.problems import Problem

T = TypeVar("T")

LIMIT_MAX = 100
CURSOR_LETTERS_MAX = 1_024

Limit = Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX, description="How many at most.")]
CursorText = Annotated[
    str, msgspec.Meta(max_length=CURSOR_LETTERS_MAX, description="`next` of the page before; absent for the first.")
]


class InvalidCursor(Problem):
    status, type, title = 400, "core/invalid-cursor", "The cursor does not belong to this query"


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some of the items in order, and the cursor of the next page, None after the last."""

    items: list[T]
    next: str | None = None


class PageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The query fields of a list in pages; a list with more of them inherits."""

    limit: Limit = 50
    cursor: CursorText | None = None


class _Sealed(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    version: int
    query: bytes
    position: msgspec.Raw


class Cursors(Generic[T]):
    """The cursors of one list: `name` tells it from every other, `position` is the type of a place in it.

    A change to what a position means takes a new `version`. `query` below is whatever else decides what the list holds
    and how it is sorted: filters, search text, order.
    """

    def __init__(self, name: str, position: type[T], version: int = 1) -> None:
        self._name = name
        self._version = version
        self._decode = msgspec.msgpack.Decoder(position).decode

    def seal(self, position: T, *query: Any) -> str:
        """The cursor that continues after `position`."""
        sealed = _Sealed(self._version, self._digest(query), msgspec.Raw(msgspec.msgpack.encode(position)))
        return urlsafe_b64encode(msgspec.msgpack.encode(sealed)).rstrip(b"=").decode()

    def open(self, cursor: str | None, *query: Any) -> T | None:
        """The position in `cursor`, None for the first page. Raises `InvalidCursor`."""
        if cursor is None:
            return None
        try:
            encoded = cursor.encode("ascii")
            sealed = _unseal(b64decode(encoded + b"=" * (-len(encoded) % 4), altchars=b"-_", validate=True))
            if sealed.version != self._version or sealed.query != self._digest(query):
                raise InvalidCursor(pointer="/query/cursor")
            position = self._decode(sealed.position)
            if not _storable(msgspec.to_builtins(position)):
                raise InvalidCursor(pointer="/query/cursor")
            return position
        except (msgspec.MsgspecError, binascii.Error, UnicodeError, RecursionError):
            raise InvalidCursor(pointer="/query/cursor") from None

    def page(self, found: list[Any], limit: int, place: Any, *query: Any) -> Page[Any]:
        """The page of `found`, of which there are more than `limit` where another page follows.

        `place` gives the position of an item.
        """
        items = found[:limit]
        return Page(items, self.seal(place(items[-1]), *query) if len(found) > limit else None)

    def _digest(self, query: tuple[Any, ...]) -> bytes:
        return blake2b(msgspec.json.encode((self._name, query), order="deterministic"), digest_size=8).digest()


def _storable(value: Any) -> bool:
    """Whether a database can be asked about a forged position."""
    if isinstance(value, int):
        return value < 2**63
    if isinstance(value, str):
        return "\0" not in value
    if isinstance(value, dict):
        value = list(value.values())
    return not isinstance(value, list | tuple) or all(map(_storable, value))


_unseal = msgspec.msgpack.Decoder(_Sealed).decode
