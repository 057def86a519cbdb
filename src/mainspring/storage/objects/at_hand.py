"""Small reads that are answered within one turn of the event loop: the row by the loop's own connection, the body from memory.

Every such read reads the row, so that nothing it says can be older than the last answered write, whoever wrote it. What is
remembered is what a row *means*: parsing one costs more than reading it. It is found by the whole row, so that another row,
of the same key or not, can never be taken for it.

Only for a database that has an embedded side (`read_at_once`); elsewhere, and for all that is not at hand, the answer is None
and the usual way is taken.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from mainspring.core.database import Timeout
from mainspring.core.ports import Database
from mainspring.core.problems import Unavailable
from mainspring.storage.objects import lookups
from mainspring.storage.objects.errors import NoSuchKey
from mainspring.storage.objects.lookups import Found, Joined
from mainspring.storage.objects.model import Object, Piece, unpack_pieces
from mainspring.storage.objects.reading import CACHED_BYTES_MAX
from mainspring.storage.objects.references import Stripe
from mainspring.storage.objects.stripes import StripeStore

REMEMBERED_MAX = 8_192
REMEMBERED_BYTES_MAX = 2_048
"""A row with more than so many bytes of metadata is parsed anew each time."""


class AtHand(msgspec.Struct, eq=False):
    """An object as it is now. `shown` is for the caller to keep what it made of it; it lives as long as the row is known."""

    object: Object
    piece: Piece | None
    stripe: Stripe | None
    shown: Any = None


class SmallReads:
    def __init__(self, database: Database, store: StripeStore) -> None:
        self._read: Callable[..., Joined | None] | None = getattr(database, "read_at_once", None)
        self._store = store
        self._parsed: dict[tuple[str, Joined], AtHand] = {}

    def find(self, bucket: str, key: str) -> AtHand | None:
        """The newest version of `key`; None where there is none, or it cannot be told at once."""
        if self._read is None:
            return None
        try:
            row = self._read(lookups.newest_joined, bucket, key)
        except (Timeout, Unavailable):
            return None
        if row is None:
            return None
        known = self._parsed.get((key, row))
        return known if known is not None else self._parse(key, row)

    def body(self, found: AtHand) -> bytes | None:
        """All bytes of the object, checked; None where it is not a small one in the page cache as it was written."""
        piece, stripe, object = found.piece, found.stripe, found.object
        if not object.size:
            return b""
        if piece is None or stripe is None or object.sealed is not None or piece.length != object.size:
            return None
        return self._store.read_cached(stripe, piece.offset, piece.offset + piece.length, piece.crc32c)

    def _parse(self, key: str, row: Joined) -> AtHand | None:
        try:
            found: Found = lookups.found_in(row, key)
        except NoSuchKey:
            return None
        pieces = unpack_pieces(found.pieces) if found.stripes else []
        small = len(pieces) == 1 and pieces[0].length <= CACHED_BYTES_MAX
        parsed = AtHand(found.object, pieces[0] if small else None, found.stripes[0] if small else None)
        if lookups.size_of(row) <= REMEMBERED_BYTES_MAX:
            if len(self._parsed) >= REMEMBERED_MAX:
                del self._parsed[next(iter(self._parsed))]
            self._parsed[key, row] = parsed
        return parsed
