"""Which codes exist: a view that says "unknown" without asking the database.

Each code is a 64-bit hash. Those of the snapshot are one sorted array, read where it lies (a mapped file costs nothing to
open, a look-up is a binary search); those made since are a set. A false yes (two codes of one hash) costs one look into the
table; a false no cannot be, because codes are never deleted.
"""

from bisect import bisect_left
from hashlib import blake2b

import msgspec
import sqlalchemy as sa

from mainspring.core.ports import Connection, Record
from mainspring.social.links.tables import link

TOPIC = "links.changed"

ALL_CODES = sa.select(link.c.domain_id, link.c.code)


class Change(msgspec.Struct, frozen=True, array_like=True):
    """A record of `links.changed`: a link that was made or edited; an empty `code` means the domain itself."""

    domain_id: int
    code: str = ""


encode_change = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Change).decode


def change_of(record: Record) -> Change:
    return _decode(record.value)


class KnownCodes:
    """The view. `add` and `in` take (domain id, code)."""

    def __init__(self) -> None:
        self._sorted = memoryview(b"").cast("Q")
        self._added: set[int] = set()

    def __len__(self) -> int:
        return len(self._sorted) + len(self._added)

    def __contains__(self, code: tuple[int, str]) -> bool:
        wanted = hash_of(*code)
        if wanted in self._added:
            return True
        place = bisect_left(self._sorted, wanted)
        return place < len(self._sorted) and self._sorted[place] == wanted

    def add(self, domain_id: int, code: str) -> None:
        self._added.add(hash_of(domain_id, code))

    def apply(self, record: Record) -> None:
        change = _decode(record.value)
        if change.code:
            self.add(change.domain_id, change.code)

    def snapshot(self) -> bytes:
        """All hashes in order, 8 bytes each."""
        import numpy

        hashes = numpy.concatenate(
            [numpy.frombuffer(self._sorted, dtype="<u8"), numpy.fromiter(self._added, dtype="<u8")]
        )
        return numpy.unique(hashes).tobytes()

    def restore(self, snapshot: bytes | memoryview) -> None:
        self._sorted = memoryview(snapshot).cast("B").cast("Q")
        self._added = set()

    def rebuild(self, connection: Connection) -> None:
        self._sorted = memoryview(b"").cast("Q")
        self._added = {hash_of(domain_id, code) for domain_id, code in connection.execute(ALL_CODES)}


def hash_of(domain_id: int, code: str) -> int:
    digest = blake2b(f"{domain_id}/{code}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
