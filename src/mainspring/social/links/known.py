"""Which codes exist: a view that says "unknown" without asking the database.

Each code is a 64-bit hash. Those of the snapshot are one sorted array, read where it lies (a mapped file costs nothing to
open, a look-up is a binary search); those made since are a set. A false yes (two codes of one hash) costs one look into the
table; a false no cannot be, because codes are never deleted.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable
from hashlib import blake2s

import msgspec
import sqlalchemy as sa

from mainspring.core.imports import imported
from mainspring.core.ports import Connection, Record
from mainspring.social.links.tables import link

TOPIC = "links.changed"

_LONG = 1 << 63

ALL_CODES = sa.select(link.c.domain_id, link.c.code)


class Change(msgspec.Struct, frozen=True, array_like=True):
    """A record of `links.changed`: a link was made, or edited; an empty `code` means the domain itself."""

    domain_id: int
    code: str = ""
    made: bool = False


encode_change = msgspec.msgpack.Encoder().encode
decode_change = msgspec.msgpack.Decoder(Change).decode


class KnownCodes:
    """The view. `add` and `in` take a domain's id and a code. Until it is `ready` every code may exist.

    `on_change` is told of every edit that the view meets: what else must follow the same events hangs there.
    """

    def __init__(self, on_change: Callable[[Change], None] | None = None) -> None:
        self.ready = False
        self._on_change = on_change
        self._state: tuple[memoryview, set[int]] = (memoryview(b"").cast("Q"), set())

    def __len__(self) -> int:
        return sum(map(len, self._state))

    def __contains__(self, code: tuple[int, str]) -> bool:
        if not self.ready:
            return True
        hashes, added = self._state
        wanted = hash_of(*code)
        return wanted in added or _holds(hashes, wanted)

    def add(self, domain_id: int, code: str) -> None:
        hashes, added = self._state
        made = hash_of(domain_id, code)
        # The news of a code may come after the snapshot that holds it.
        if made not in added and not (hashes and _holds(hashes, made)):
            added.add(made)

    def apply(self, record: Record) -> None:
        change = decode_change(record.value)
        if change.made:
            self.add(change.domain_id, change.code)
        elif self._on_change is not None:
            self._on_change(change)

    def snapshot(self) -> bytes:
        """All hashes in order, 8 bytes each. Ten million take 30 ms: those that were added are merged, nothing is sorted."""
        numpy = imported("numpy")  # this runs in a thread

        hashes, added = numpy.frombuffer(self._state[0], "<u8"), numpy.sort(numpy.fromiter(self._state[1], "<u8"))
        places = numpy.searchsorted(hashes, added)
        there = numpy.zeros(len(added), bool)
        inside = places < len(hashes)
        there[inside] = hashes[places[inside]] == added[inside]
        merged: bytes = numpy.insert(hashes, places[~there], added[~there]).tobytes()
        return merged

    def restore(self, snapshot: bytes | memoryview) -> None:
        self._state = memoryview(snapshot).cast("B").cast("Q"), set()

    def rebuild(self, connection: Connection) -> None:
        hashes = array("Q", sorted(hash_of(domain_id, code) for domain_id, code in connection.execute(ALL_CODES)))
        self._state = memoryview(hashes), set()


def _holds(hashes: memoryview, wanted: int) -> bool:
    place = bisect_left(hashes, wanted)
    return place < len(hashes) and bool(hashes[place] == wanted)


def hash_of(domain_id: int, code: str) -> int:
    """64 bits. Up to seven bytes of the default domain, as most codes are, stand for themselves; all others are above them."""
    if not domain_id and len(word := code.encode()) < 8:
        return int.from_bytes(word, "big")
    return int.from_bytes(blake2s(f"{domain_id}/{code}".encode()).digest()[:8], "big") | _LONG
