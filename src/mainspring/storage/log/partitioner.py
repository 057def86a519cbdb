"""Which partition a record goes to: by its key as the Java client has it, so that all clients agree; without one, anywhere.

The hash is A. Appleby's MurmurHash2 (2008) with the seed and the signs of `org.apache.kafka.common.utils.Utils.murmur2`. Many
keys of one length are hashed side by side: one long integer holds a lane of 64 bits for each, of which a product of two
numbers of 32 bits never leaves its own, so that a step for all of them is one operation.
"""

from collections.abc import Sequence

_M = 0x5BD1E995
_SEED = 0x9747B28C
_MASK = 0xFFFFFFFF
_LANE_BYTES = 8
_SIDE_BY_SIDE_MIN = 4
"""Fewer keys than these are hashed one by one in less time."""


def murmur2(data: bytes) -> int:
    """The hash as an unsigned number of 32 bits."""
    length = len(data)
    h = _SEED ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if length != whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def murmur2_many(keys: Sequence[bytes]) -> list[int]:
    """The hashes of keys that are all of one length."""
    count, length = len(keys), len(keys[0])
    if count < _SIDE_BY_SIDE_MIN:
        return [murmur2(key) for key in keys]
    data = b"".join(keys)
    each = int.from_bytes(b"\1".ljust(_LANE_BYTES, b"\0") * count, "little")
    mask = _MASK * each

    def column(at: int) -> int:
        """Up to four bytes of every key, from `at` on, each key's in its own lane."""
        lanes = bytearray(_LANE_BYTES * count)
        for byte in range(min(4, length - at)):
            lanes[byte::_LANE_BYTES] = data[at + byte :: length]
        return int.from_bytes(lanes, "little")

    def mixed(lanes: int, bits: int) -> int:
        """Each lane with its own upper bits over the lower ones."""
        return lanes ^ (lanes >> bits & (_MASK >> bits) * each)

    h = (_SEED ^ length) * each
    whole = length & ~3
    for at in range(0, whole, 4):
        k = mixed(column(at) * _M & mask, 24) * _M & mask
        h = (h * _M & mask) ^ k
    if length != whole:
        h = (h ^ column(whole)) * _M & mask
    h = mixed(mixed(h, 13) * _M & mask, 15)
    return memoryview(h.to_bytes(_LANE_BYTES * count, "little")).cast("Q").tolist()


def partition_of(key: bytes, partitions: int) -> int:
    return (murmur2(key) & 0x7FFFFFFF) % partitions if partitions > 1 else 0


def partitions_of(keys: Sequence[bytes | None], partitions: int, anywhere: int) -> list[int]:
    """For each key its partition; `anywhere` for records without one."""
    chosen = [anywhere] * len(keys)
    if partitions == 1:
        return [0] * len(keys)
    by_length: dict[int, list[int]] = {}
    for at, key in enumerate(keys):
        if key is not None:
            by_length.setdefault(len(key), []).append(at)
    for places in by_length.values():
        hashes = murmur2_many([keys[at] or b"" for at in places])
        for at, one in zip(places, hashes, strict=True):
            chosen[at] = (one & 0x7FFFFFFF) % partitions
    return chosen
