"""Erasure profiles, and the codec: k data shards, m parity shards, any k of them give the payload back.

Reed-Solomon with a Cauchy matrix (Blömer et al. 1995) from ISA-L, by way of liberasurecode. It is systematic: data shard i
holds bytes [i * length, (i + 1) * length) of the payload, so that an intact read decodes nothing. Each fragment begins with
liberasurecode's own header of 80 bytes, which is kept with the shard: decoding needs it.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from mainspring.storage.objects.galois import Row, combine, inverse, inverted

CODEC_BYTES = 80


class Profile(NamedTuple):
    """k data and m parity shards."""

    k: int
    m: int

    @property
    def shards(self) -> int:
        return self.k + self.m

    @property
    def written_min(self) -> int:
        """How many shards must be on stable storage before a write is acknowledged."""
        return self.k + 1 if self.m else self.k

    def __str__(self) -> str:
        return f"{self.k}+{self.m}"


_BY_DISKS = ((14, Profile(10, 4)), (12, Profile(8, 4)), (9, Profile(6, 3)), (6, Profile(4, 2)), (5, Profile(3, 2)))
_FEW = {1: Profile(1, 0), 2: Profile(1, 1), 3: Profile(2, 1), 4: Profile(2, 2)}


def default_profile(disks: int) -> Profile:
    """The profile for so many disks, at least one."""
    return next((profile for least, profile in _BY_DISKS if disks >= least), None) or _FEW[disks]


def parse_profile(text: str) -> Profile:
    """`4+2`. Raises `ValueError` for what is no profile that the codec has."""
    k, _, m = text.partition("+")
    profile = Profile(int(k), int(m))
    if not 1 <= profile.k <= 20 or not 0 <= profile.m <= 8 or (profile.m == 0 and profile.k != 1):
        raise ValueError(f"{text} is not an erasure profile")
    return profile


def shard_length(size: int, k: int) -> int:
    """Length of each shard of a payload of `size` bytes."""
    return -(-size // k)


def encode(payload: bytes, profile: Profile) -> list[bytes]:
    """The k+m fragments of `payload`, each its codec header and then its shard; for 1+0 the payload itself."""
    if profile.m == 0:
        return [payload]
    fragments: list[bytes] = _driver(*profile).encode(payload)
    return fragments


def decode(fragments: Mapping[int, bytes], profile: Profile, size: int) -> bytes:
    """The payload of `size` bytes, from any k of its fragments, given by index. Only missing data shards are computed."""
    if profile.m == 0:
        return fragments[0]
    missing = [index for index in range(profile.k) if index not in fragments]
    length = shard_length(size, profile.k)
    shards = {index: memoryview(fragment)[CODEC_BYTES:] for index, fragment in fragments.items()}
    shards.update(zip(missing, compute(fragments, missing, profile, CODEC_BYTES, length), strict=True))
    return b"".join([shards[index] for index in range(profile.k)])[:size]


def compute(
    parts: Mapping[int, bytes], missing: Sequence[int], profile: Profile, skip: int, length: int
) -> list[memoryview]:
    """Bytes of the data shards with the indexes `missing`, from the same bytes of at least k others: [skip, skip + length) of
    each part. A range of a shard depends on no more than that range of the others."""
    if not missing:
        return []
    known = tuple(sorted(parts)[: profile.k])
    rows = _factors(profile, known)
    return combine([rows[index] for index in missing], [parts[index] for index in known], skip, length)


@lru_cache(maxsize=256)
def _factors(profile: Profile, known: tuple[int, ...]) -> list[Row]:
    """How each data shard is made of the `known` k shards: the inverse of what made those of the data shards."""
    k = profile.k
    return inverted([tuple(inverse(one ^ at) if one >= k else int(one == at) for at in range(k)) for one in known])


def reconstruct(fragments: Sequence[bytes], missing: Sequence[int], profile: Profile) -> list[bytes]:
    """The fragments with the indexes `missing`, from any k others."""
    rebuilt: list[bytes] = _driver(*profile).reconstruct(list(fragments), list(missing))
    return rebuilt


@lru_cache(maxsize=32)
def _driver(k: int, m: int) -> Any:
    from pyeclib.ec_iface import ECDriver

    return ECDriver(k=k, m=m, ec_type="isa_l_rs_cauchy")
