"""Listings: keys in the order of their bytes, common prefixes rolled up, page after page over one moment.

With a delimiter the walk seeks past each common prefix instead of reading what is below it, so a page costs what it shows:
after a seek it reads one row, and where that was no prefix again four times as many each time.
A key with many versions is sought past in the same way. What a page shows is decided by sequence numbers: of each key the
newest row with `seq <= at` that had not ended by then. Rows that end while pages are asked for are kept (`versions.drop`).
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as BadBase64
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import and_, bindparam, or_, select

from mainspring.core.database import Bytes, Int64
from mainspring.core.ports import Connection
from mainspring.storage.objects import buckets
from mainspring.storage.objects.errors import InvalidArgument
from mainspring.storage.objects.lookups import find_bucket
from mainspring.storage.objects.model import Bucket, Checksum, Flags, Versioning, version_id
from mainspring.storage.objects.numbering import Numbers
from mainspring.storage.objects.tables import version

KEYS_MAX = 1000
ROWS_FIRST, ROWS_GROWTH, ROWS_MAX = 1, 4, 1024
OLD_VERSIONS_MAX = 32
"""After so many older versions of one key in a row the walk seeks past it."""

END = b"\xff"
_v = version.c
_COLUMNS = (_v.key, _v.rank, _v.flags, _v.size, _v.etag, _v.about)
_SPAN = and_(
    _v.bucket == bindparam("of_bucket"),
    _v.key >= bindparam("start", type_=Bytes),
    _v.key < bindparam("end", type_=Bytes),
)
_NOW = select(*_COLUMNS).where(_SPAN, _v.gone.is_(None)).order_by(_v.key, _v.rank).limit(bindparam("count"))
_AT = (
    select(*_COLUMNS)
    .where(
        _SPAN,
        _v.rank >= -bindparam("at", type_=Int64),
        or_(_v.gone.is_(None), _v.gone > bindparam("at", type_=Int64)),
    )
    .order_by(_v.key, _v.rank)
    .limit(bindparam("count"))
)
_SAME_KEY = and_(_v.bucket == bindparam("of_bucket"), _v.key == bindparam("start", type_=Bytes))
_OLDER = (
    select(*_COLUMNS)
    .where(
        _SAME_KEY,
        _v.rank > bindparam("below", type_=Int64),
        _v.rank >= -bindparam("at", type_=Int64),
        or_(_v.gone.is_(None), _v.gone > bindparam("at", type_=Int64)),
    )
    .order_by(_v.rank)
    .limit(bindparam("count"))
)
FOREVER = 2**62


class Listed(msgspec.Struct, frozen=True, gc=False):
    """One line of a listing. `modified_us` is also its sequence number."""

    key: str
    modified_us: int
    flags: int
    size: int
    etag: str
    storage_class: str
    owner: str
    checksum: Checksum | None
    latest: bool = True

    @property
    def version(self) -> str:
        """The public name of this version."""
        return version_id(self.modified_us, self.flags)

    @property
    def marker(self) -> bool:
        return bool(self.flags & Flags.DELETE_MARKER)


class _Told(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Of a `model.About` what listings tell; the rest is skipped unread."""

    headers: msgspec.Raw = msgspec.Raw()
    metadata: msgspec.Raw = msgspec.Raw()
    checksum: Checksum | None = None
    storage_class: str = "STANDARD"
    owner: str = ""


_decode_told = msgspec.msgpack.Decoder(_Told).decode


class Page(msgspec.Struct, frozen=True):
    """`token` asks for the next page of the same moment; None where this is the last. `next_key` is what the older API
    calls the next marker: the last key or common prefix of this page; `next_version` goes with it for versions."""

    entries: list[Listed]
    prefixes: list[str]
    token: str | None
    next_key: str | None
    next_version: str | None
    versioning: Versioning


class Token(msgspec.Struct, frozen=True, array_like=True):
    """Where the next page begins, and the moment it shows. `below` is the rank after which a key's versions go on; `as_of`
    says that the moment was asked for, and so never expires."""

    start: bytes
    at: int
    below: int | None = None
    as_of: bool = False


class Ask(msgspec.Struct, frozen=True):
    """A listing: `after` is excluded; all as bytes. `at` is None for the present."""

    prefix: bytes = b""
    delimiter: bytes = b""
    start: bytes = b""
    below: int | None = None
    count: int = KEYS_MAX
    at: int | None = None
    versions: bool = False


class Walked(NamedTuple):
    bucket: Bucket
    entries: list[Listed]
    prefixes: list[bytes]
    next: Token | None


def encode_token(token: Token) -> str:
    return urlsafe_b64encode(msgspec.msgpack.encode(token)).decode().rstrip("=")


def decode_token(text: str) -> Token:
    """Raises `InvalidArgument` for what is no token of ours."""
    try:
        token = msgspec.msgpack.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Token)
    except (BadBase64, ValueError, msgspec.MsgspecError):
        raise InvalidArgument("The continuation token provided is incorrect", argument="continuation-token") from None
    return token


def first_start(prefix: bytes, delimiter: bytes, after: bytes) -> bytes:
    """Where a listing begins that shows what comes after `after`, which may be a common prefix of the last page."""
    if not after:
        return prefix
    rest = after[len(prefix) :] if after.startswith(prefix) else b""
    if delimiter and rest.endswith(delimiter) and rest.find(delimiter) == len(rest) - len(delimiter):
        return max(prefix, beyond(after))
    return max(prefix, after + b"\0")


def beyond(prefix: bytes) -> bytes:
    """The least key that is greater than all that begin with `prefix`."""
    stripped = prefix.rstrip(END)
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else END * 1025


def walk(connection: Connection, bucket_name: str, ask: Ask) -> Walked:
    """One page. Raises `NoSuchBucket`."""
    bucket = find_bucket(connection, bucket_name)
    entries: list[Listed] = []
    prefixes: list[bytes] = []
    if ask.count <= 0:
        return Walked(bucket, entries, prefixes, None)
    cursor = _Cursor(connection, bucket.id, ask)
    seen: bytes | None = ask.start if ask.below is not None else None
    older = 0
    for row in cursor:
        key, rank, flags = row[0], row[1], row[2]
        latest = key != seen
        if not latest and not ask.versions:
            older += 1
            if older > OLD_VERSIONS_MAX:
                cursor.seek(key + b"\0")
            continue
        seen, older = key, 0
        if flags & Flags.DELETE_MARKER and not ask.versions:
            continue
        cut = key.find(ask.delimiter, len(ask.prefix)) if ask.delimiter else -1
        full = len(entries) + len(prefixes) >= ask.count
        if full:
            below = cursor.last_rank if ask.versions and not latest else None
            return Walked(bucket, entries, prefixes, Token(key, ask.at or 0, below))
        if cut >= 0:
            prefixes.append(key[: cut + len(ask.delimiter)])
            cursor.seek(beyond(prefixes[-1]))
            continue
        entries.append(_listed(row, latest))
        cursor.last_rank = rank
    return Walked(bucket, entries, prefixes, None)


def fix_moment(connection: Connection, numbers: Numbers, bucket: int) -> int:
    """The sequence number of now, at which a listing in pages shows the bucket from here on."""
    at = numbers.next_in(connection)
    buckets.show(connection, bucket, at)
    return at


class _Cursor:
    """The rows of a span in order, read in growing batches; `seek` goes on elsewhere, and batches are small again."""

    def __init__(self, connection: Connection, bucket: int, ask: Ask) -> None:
        self.last_rank = 0
        self._connection = connection
        self._statement = _NOW if ask.at is None else _AT
        self._parameters: dict[str, Any] = {
            "of_bucket": bucket,
            "start": ask.start or ask.prefix,
            "end": beyond(ask.prefix) if ask.prefix else END * 1025,
        }
        if ask.at is not None:
            self._parameters["at"] = ask.at
        self._ask = ask
        self._sought: bytes | None = None
        self._count = ROWS_FIRST if ask.delimiter else min(ask.count + 1, ROWS_MAX)

    def seek(self, key: bytes) -> None:
        self._sought = key
        self._count = ROWS_FIRST

    def __iter__(self) -> Iterator[Any]:
        if self._ask.below is not None:
            yield from self._older(self._parameters["start"], self._ask.below)
            self._go_on(self._parameters["start"] + b"\0")
        while self._parameters["start"] < self._parameters["end"]:
            rows = self._rows(self._statement)
            for row in rows:
                yield row
                if self._sought is not None:
                    break
            if not self._is_sought():
                if len(rows) < self._count:
                    return
                # A batch may end within a key's versions; the others of that key come before the next one.
                self._count = min(ROWS_GROWTH * self._count, ROWS_MAX)
                yield from self._older(rows[-1][0], rows[-1][1])
            self._go_on(rows[-1][0] + b"\0")

    def _older(self, key: bytes, below: int) -> Iterator[Any]:
        """The versions of a key from a rank on."""
        at = FOREVER if self._ask.at is None else self._ask.at
        while not self._is_sought():
            rows = self._rows(_OLDER, start=key, below=below, at=at)
            for row in rows:
                yield row
                if self._is_sought():
                    return
            if len(rows) < self._count:
                return
            below = rows[-1][1]

    def _is_sought(self) -> bool:
        return self._sought is not None

    def _go_on(self, start: bytes) -> None:
        """Goes on where it was asked to, or else at `start`."""
        self._parameters["start"] = start if self._sought is None else self._sought
        self._sought = None

    def _rows(self, statement: Any, **more: Any) -> list[Any]:
        return self._connection.execute(statement, {**self._parameters, **more, "count": self._count}).all()


def _listed(row: Any, latest: bool) -> Listed:
    key, rank, flags, size, etag, about = row
    told = _decode_told(about)
    return Listed(key.decode(), -rank, flags, size, etag, told.storage_class, told.owner, told.checksum, latest)
