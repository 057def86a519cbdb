"""The last offset of each key, in 24 bytes a key: what compaction keeps in memory.

A table of (hash of the key: 16 bytes, offset: 8 bytes) with open addressing, filled to three quarters at most. Two keys with
the same 128-bit hash would be taken for one; at a billion keys the chance is below 10⁻²⁰.
"""

from struct import Struct

from xxhash import xxh3_128_digest

ENTRY_BYTES = 24
LOAD_MAX = 0.75

_OFFSET = Struct(">q")
_FIRST = Struct(">Q")
_FREE = bytes(16)


class OffsetMap:
    """Up to `capacity` keys; `latest` is the last offset that has been taken in."""

    def __init__(self, bytes_max: int, keys: int) -> None:
        """Takes no more than `bytes_max`, and less where `keys` need less."""
        self._slots = max(4, min(bytes_max // ENTRY_BYTES, int(keys / LOAD_MAX) + 4))
        self._table = bytearray(self._slots * ENTRY_BYTES)
        self.capacity = int(self._slots * LOAD_MAX)
        self.latest = -1
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def put(self, key: bytes, offset: int) -> None:
        """Raises `OverflowError` where the map is full and the key is new."""
        digest = xxh3_128_digest(key)
        at = self._find(digest)
        if self._table[at : at + 16] != digest:
            if self._used >= self.capacity:
                raise OverflowError("the map of keys is full")
            self._table[at : at + 16] = digest
            self._used += 1
        _OFFSET.pack_into(self._table, at + 16, offset)

    def get(self, key: bytes) -> int:
        """The last offset of `key`, or -1."""
        digest = xxh3_128_digest(key)
        at = self._find(digest)
        offset: int = _OFFSET.unpack_from(self._table, at + 16)[0]
        return offset if self._table[at : at + 16] == digest else -1

    def _find(self, digest: bytes) -> int:
        table, slots = self._table, self._slots
        slot: int = _FIRST.unpack_from(digest)[0] % slots
        while True:
            at = slot * ENTRY_BYTES
            there = table[at : at + 16]
            if there in (digest, _FREE):
                return at
            slot = slot + 1 if slot + 1 < slots else 0
