"""The words of the object store: buckets, versions of objects, the pieces that hold their bytes; rules without I/O.

A key is text whose UTF-8 form is at most 1,024 bytes; it is stored and compared as those bytes and never touches a path.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple

import msgspec

from mainspring.storage.objects.errors import (
    BadRequest,
    InvalidArgument,
    InvalidBucketName,
    KeyTooLong,
    MetadataTooLarge,
    NoSuchVersion,
)

KEY_BYTES_MAX = 1024
METADATA_BYTES_MAX = 2048
TAGS_MAX = 10
NULL = "null"
DAY_US = 86_400_000_000

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_RESERVED = re.compile(r"xn--.*|sthree-.*|amzn-s3-demo-.*|.*-s3alias|.*--ol-s3|.*\.mrap|.*--x-s3|.*--table-s3")
_PIECE = struct.Struct("<QIII")


class Versioning(IntEnum):
    NEVER = 0
    ENABLED = 1
    SUSPENDED = 2


class Flags:
    """Bits of a version's row; plain numbers, because each row of a listing is asked for them."""

    NULL_VERSION = 1
    DELETE_MARKER = 2


class Piece(NamedTuple):
    """`length` bytes at `offset` of a stripe's payload, with their CRC32C."""

    stripe: int
    offset: int
    length: int
    crc32c: int


class Checksum(msgspec.Struct, frozen=True, array_like=True):
    """`algorithm` is CRC32, CRC32C, CRC64NVME, SHA1 or SHA256; `value` is base64, with `-N` after a composite one.

    As a wish (`value` empty) it says what to compute.
    """

    algorithm: str
    value: str = ""
    kind: str = "FULL_OBJECT"


class Lock(msgspec.Struct, frozen=True, omit_defaults=True):
    """`mode` is GOVERNANCE or COMPLIANCE, until `until_us`; `hold` is a legal hold, which has no end of its own."""

    mode: str | None = None
    until_us: int | None = None
    hold: bool = False

    def protects(self, now_us: int, bypass_governance: bool = False) -> bool:
        """Whether the version may neither be removed nor changed now."""
        if self.hold:
            return True
        if self.mode is None or self.until_us is None or self.until_us <= now_us:
            return False
        return self.mode == "COMPLIANCE" or not bypass_governance


class LockDefault(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a bucket with object lock gives to new versions; nothing where `mode` is None."""

    mode: str | None = None
    days: int | None = None
    years: int | None = None

    def lock(self, now_us: int) -> Lock | None:
        if self.mode is None:
            return None
        days = self.days if self.days is not None else 365 * (self.years or 0)
        return Lock(mode=self.mode, until_us=now_us + days * DAY_US)


class Part(msgspec.Struct, frozen=True, array_like=True):
    """One part of an object that was uploaded in parts. `checksum` is base64, empty where none was asked for."""

    number: int
    size: int
    checksum: str = ""


class Sealed(msgspec.Struct, frozen=True, array_like=True):
    """How a body is encrypted. `mode` is AES256, aws:kms or customer; `wrapped` the data key under the key `key_id` (for a
    customer's own key its MD5, base64); `units` the salt and the plain size of the body, or of each of its parts."""

    mode: str
    key_id: str
    wrapped: bytes
    units: tuple[tuple[bytes, int], ...] = ()
    context: str = ""


class About(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a version and is only ever read whole."""

    headers: dict[str, str] = {}
    metadata: dict[str, str] = {}
    checksum: Checksum | None = None
    storage_class: str = "STANDARD"
    owner: str = ""
    parts: tuple[Part, ...] = ()
    sealed: Sealed | None = None
    upload: str = ""
    acl: bytes = b""


class Bucket(msgspec.Struct, frozen=True):
    """`lock` is None where object lock is off; `profile` is `k+m` where one was chosen."""

    id: int
    name: str
    owner: str
    region: str
    created_us: int
    versioning: Versioning
    lock: LockDefault | None
    snapshot: int
    profile: str | None = None


class Object(msgspec.Struct, frozen=True):
    """One version of a key. `etag` is without quotes; `headers` has lower-case names, `content-type` among them."""

    bucket: str
    key: str
    version: str
    seq: int
    size: int
    etag: str
    headers: dict[str, str]
    metadata: dict[str, str]
    checksum: Checksum | None
    storage_class: str
    owner: str
    parts: tuple[Part, ...]
    sealed: Sealed | None
    tags: dict[str, str]
    lock: Lock | None
    marker: bool = False
    latest: bool = True
    acl: bytes = b""
    versioned: bool = False

    @property
    def modified_us(self) -> int:
        return self.seq


class Deleted(msgspec.Struct, frozen=True):
    """What a delete did: `version` is that of the marker made, or of the version removed; None where there was nothing."""

    key: str
    version: str | None
    marker: bool


encode_about = msgspec.msgpack.Encoder().encode
decode_about = msgspec.msgpack.Decoder(About).decode


def pack_pieces(pieces: Iterable[Piece]) -> bytes:
    return b"".join([_PIECE.pack(*piece) for piece in pieces])


def unpack_pieces(packed: bytes) -> list[Piece]:
    return [Piece(*fields) for fields in _PIECE.iter_unpack(packed)]


def stripe_lengths(packed: bytes) -> Iterator[tuple[int, int]]:
    """(stripe, bytes) of each piece."""
    for stripe, _, length, _ in _PIECE.iter_unpack(packed):
        yield stripe, length


def version_id(seq: int, flags: int) -> str:
    """The public name of a version: `null`, or 32 letters that tell its place in the order of its key."""
    return NULL if flags & Flags.NULL_VERSION else f"{seq:016x}{(seq * 0x9E3779B97F4A7C15) & (2**64 - 1):016x}"


def parse_version(text: str) -> int | None:
    """The sequence number that a version's name tells; None is the null version. Raises `NoSuchVersion`."""
    if text == NULL:
        return None
    try:
        seq = int(text[:16], 16)
    except ValueError:
        raise InvalidArgument("Invalid version id specified", argument="versionId", value=text) from None
    if version_id(seq, 0) != text or seq >= 2**63:
        raise NoSuchVersion(version=text)
    return seq


def checked_bucket_name(name: str) -> str:
    """Gives `name` back. Raises `InvalidBucketName`."""
    if not _BUCKET.fullmatch(name) or ".." in name or ".-" in name or "-." in name:
        raise InvalidBucketName(bucket=name)
    if _ADDRESS.fullmatch(name) or _RESERVED.fullmatch(name):
        raise InvalidBucketName(bucket=name)
    return name


def key_bytes(key: str) -> bytes:
    """The bytes under which `key` is stored. Raises `KeyTooLong`, and `InvalidArgument` for an empty or unencodable key."""
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        raise InvalidArgument("The key is not valid UTF-8", argument="key") from None
    if not encoded:
        raise InvalidArgument("The key must not be empty", argument="key")
    if len(encoded) > KEY_BYTES_MAX:
        raise KeyTooLong(size=len(encoded), max=KEY_BYTES_MAX)
    return encoded


def checked_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """Gives `metadata` back. Raises `MetadataTooLarge` over 2 KiB of names and values."""
    size = sum(len(name.encode()) + len(value.encode()) for name, value in metadata.items())
    if size > METADATA_BYTES_MAX:
        raise MetadataTooLarge(size=size, max=METADATA_BYTES_MAX)
    return metadata


def checked_tags(tags: dict[str, str]) -> dict[str, str]:
    """Gives `tags` back. Raises `BadRequest` over ten, `InvalidArgument` for a name or value that is too long."""
    if len(tags) > TAGS_MAX:
        raise BadRequest(f"Object tags cannot be greater than {TAGS_MAX}")
    for name, value in tags.items():
        if not 1 <= len(name) <= 128:
            raise InvalidArgument("The TagKey you have provided is invalid", argument="tag")
        if len(value) > 256:
            raise InvalidArgument("The TagValue you have provided is invalid", argument="tag")
    return tags
