"""Checksums of bodies: MD5 for the ETag, and the five that S3 lets a client ask for, whole or composed of parts.

A full-object CRC of an upload in parts is combined from those of its parts without reading anything again. Where a client
asks for none, CRC64NVME is kept, as S3 does.
"""

import hashlib
from base64 import b64decode, b64encode
from binascii import Error as BadBase64
from collections.abc import Callable, Sequence
from typing import Any

from awscrt import checksums as crt  # type: ignore[import-untyped]

from mainspring.storage.objects.errors import BadDigest, InvalidDigest, InvalidRequest
from mainspring.storage.objects.model import Checksum

Crc = Callable[[Any, int], int]

CRCS: dict[str, tuple[Crc, Callable[[int, int, int], int], int]] = {
    "CRC32": (crt.crc32, crt.combine_crc32, 4),
    "CRC32C": (crt.crc32c, crt.combine_crc32c, 4),
    "CRC64NVME": (crt.crc64nvme, crt.combine_crc64nvme, 8),
}
HASHES = {"SHA1": (hashlib.sha1, 20), "SHA256": (hashlib.sha256, 32)}
ALGORITHMS = (*CRCS, *HASHES)
COMPOSITE, FULL_OBJECT = "COMPOSITE", "FULL_OBJECT"
DEFAULT = "CRC64NVME"


class Digests:
    """MD5 and one checksum of bytes that come in order, and maybe a CRC `beside` it. `update` blocks, and lets other
    threads run for long input."""

    def __init__(self, algorithm: str | None, beside: str | None = None) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._crc = 0
        self._function: Crc | None = None
        self._hash: Any = None
        self.algorithm = algorithm
        self._beside = None if beside is None or beside == algorithm else beside
        self._beside_crc = 0
        if algorithm in CRCS:
            self._function = CRCS[algorithm][0]
        elif algorithm is not None:
            self._hash = HASHES[algorithm][0]()

    def update(self, data: bytes | bytearray | memoryview) -> None:
        self._md5.update(data)
        if self._function is not None:
            self._crc = self._function(data, self._crc)
        elif self._hash is not None:
            self._hash.update(data)
        if self._beside is not None:
            self._beside_crc = CRCS[self._beside][0](data, self._beside_crc)

    @property
    def md5(self) -> str:
        """Hexadecimal."""
        return self._md5.hexdigest()

    @property
    def checksum(self) -> Checksum | None:
        if self.algorithm is None:
            return None
        if self._hash is not None:
            return Checksum(self.algorithm, b64encode(self._hash.digest()).decode())
        return Checksum(self.algorithm, _crc_text(self.algorithm, self._crc))

    def of(self, algorithm: str) -> str:
        """The checksum of this algorithm, empty where it was not computed."""
        if algorithm == self._beside:
            return _crc_text(algorithm, self._beside_crc)
        found = self.checksum
        return found.value if found is not None and found.algorithm == algorithm else ""


def checked(wish: Checksum | None) -> Checksum | None:
    """Gives `wish` back. Raises `InvalidRequest` for an unknown algorithm or a value that cannot be one of its own."""
    if wish is None:
        return None
    if wish.algorithm not in ALGORITHMS:
        raise InvalidRequest("Checksum algorithm provided is unsupported.", algorithm=wish.algorithm)
    if wish.value and len(_decoded(wish.value.partition("-")[0])) != _length(wish.algorithm):
        raise InvalidRequest(f"Value for x-amz-checksum-{wish.algorithm.lower()} header is invalid.")
    return wish


def checked_md5(text: str | None) -> str | None:
    """The hexadecimal form of a Content-MD5. Raises `InvalidDigest`."""
    if text is None:
        return None
    try:
        digest = b64decode(text, validate=True)
    except (BadBase64, ValueError):
        raise InvalidDigest() from None
    if len(digest) != 16:
        raise InvalidDigest()
    return digest.hex()


def compare(digests: Digests, md5: str | None, wish: Checksum | None) -> None:
    """Raises `BadDigest` where a body's digests differ from what its sender said."""
    if md5 is not None and digests.md5 != md5:
        raise BadDigest("The Content-MD5 you specified did not match what we received.")
    found = digests.checksum
    if wish is not None and wish.value and found is not None and found.value != wish.value:
        raise BadDigest(f"The {wish.algorithm} you specified did not match the calculated checksum.")


def composed(algorithm: str, kind: str, parts: Sequence[tuple[str, int]]) -> Checksum | None:
    """The checksum of an object from its parts', given as (base64, size); None where a part has none."""
    if not parts or any(not value for value, _ in parts):
        return None
    if kind == FULL_OBJECT and algorithm in CRCS:
        combine = CRCS[algorithm][1]
        total = int.from_bytes(b64decode(parts[0][0]))
        for value, size in parts[1:]:
            total = combine(total, int.from_bytes(b64decode(value)), size)
        return Checksum(algorithm, _crc_text(algorithm, total), FULL_OBJECT)
    digests = Digests(algorithm)
    for value, _ in parts:
        digests.update(b64decode(value))
    found = digests.checksum
    return None if found is None else Checksum(algorithm, f"{found.value}-{len(parts)}", COMPOSITE)


def composed_etag(etags: Sequence[str]) -> str:
    """The ETag of an object from its parts': the MD5 of their MD5s, and their number."""
    joined = b"".join([bytes.fromhex(etag) for etag in etags])
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(etags)}"


def _crc_text(algorithm: str, value: int) -> str:
    return b64encode(value.to_bytes(CRCS[algorithm][2])).decode()


def _length(algorithm: str) -> int:
    return CRCS[algorithm][2] if algorithm in CRCS else HASHES[algorithm][1]


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (BadBase64, ValueError):
        return b""
