"""Finding buckets and versions, inside a transaction: the newest of a key, one by its name, the one of a moment.

A key's versions lie newest first, so the newest is its first row, and the one of a moment the first that is not younger. Rows
that are `gone` are kept for listings only and are found by nobody else.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Column, Text, and_, bindparam, select, type_coerce

from mainspring.core.database import Int64
from mainspring.core.ports import Connection
from mainspring.storage.objects import references
from mainspring.storage.objects.errors import MethodNotAllowed, NoSuchBucket, NoSuchKey, NoSuchVersion
from mainspring.storage.objects.model import (
    Bucket,
    Flags,
    Lock,
    LockDefault,
    Object,
    Versioning,
    decode_about,
    parse_version,
    stripe_lengths,
    version_id,
)
from mainspring.storage.objects.references import Stripe
from mainspring.storage.objects.tables import bucket as buckets
from mainspring.storage.objects.tables import stripe as stripes
from mainspring.storage.objects.tables import version as versions

STRIPES_AT_ONCE = 1024
"""Beyond so many stripes of one object (8 GiB) a reader finds them as it comes to them."""

_v = versions.c
_COLUMNS = (_v.rank, _v.flags, _v.gone, _v.size, _v.etag, _v.page, _v.pieces, _v.about, _v.tags, _v.lock)
_OF_KEY = and_(_v.bucket == bindparam("of_bucket"), _v.key == bindparam("of_key"))
_BUCKET_COLUMNS = tuple(buckets.c)

_NEWEST = select(*_COLUMNS).where(_OF_KEY).order_by(_v.rank).limit(1)
_NEWEST_THERE = select(*_COLUMNS).where(_OF_KEY, _v.gone.is_(None)).order_by(_v.rank).limit(1)
_AS_OF = (
    select(*_COLUMNS)
    .where(_OF_KEY, _v.gone.is_(None), _v.rank >= bindparam("from_rank", type_=Int64))
    .order_by(_v.rank)
    .limit(1)
)
_ONE = select(*_COLUMNS).where(_OF_KEY, _v.rank == bindparam("of_rank"), _v.gone.is_(None))
_NULL = (
    select(*_COLUMNS)
    .where(_OF_KEY, _v.gone.is_(None), _v.flags.bitwise_and(Flags.NULL_VERSION) != 0)
    .order_by(_v.rank)
    .limit(1)
)
_STRIPE_COLUMNS = (stripes.c.id, stripes.c.k, stripes.c.m, stripes.c.size, stripes.c.placement)
_JSON = frozenset({buckets.c.lock, _v.tags, _v.lock})


def _as_stored(columns: Iterable[Column[Any]]) -> list[Any]:
    """JSON stays text until somebody looks: it is None in most rows, and rows of plain values need no converting."""
    return [type_coerce(one, Text) if one in _JSON else one for one in columns]


_BUCKET = select(*_as_stored(_BUCKET_COLUMNS)).where(buckets.c.name == bindparam("bucket_name"))
_READ = (
    select(*_as_stored((*_BUCKET_COLUMNS, *_COLUMNS)), *_STRIPE_COLUMNS)
    .select_from(
        buckets.join(
            versions, and_(_v.bucket == buckets.c.id, _v.key == bindparam("of_key"), _v.gone.is_(None))
        ).outerjoin(stripes, stripes.c.id == _v.page)
    )
    .where(buckets.c.name == bindparam("bucket_name"))
    .order_by(_v.rank)
    .limit(1)
)


Joined = tuple[Any, ...]
_SPLIT = len(_BUCKET_COLUMNS)
_BUCKET_JSON = tuple(place for place, one in enumerate(_BUCKET_COLUMNS) if one in _JSON)
_VERSION_JSON = tuple(place for place, one in enumerate(_COLUMNS) if one in _JSON)


class Row(NamedTuple):
    """One version as its row has it."""

    rank: int
    flags: int
    gone: int | None
    size: int
    etag: str
    page: int | None
    pieces: bytes
    about: bytes
    tags: dict[str, str] | None
    lock: dict[str, Any] | None

    @property
    def seq(self) -> int:
        return -self.rank

    @property
    def marker(self) -> bool:
        return bool(self.flags & Flags.DELETE_MARKER)


class Found(msgspec.Struct, frozen=True):
    """A version with what is needed to read it: its pieces, and where they lie."""

    object: Object
    pieces: bytes
    stripes: tuple[Stripe, ...] = ()


def bucket_from(row: Any) -> Bucket:
    id, name, owner, region, created_us, versioning, lock, snapshot, profile = row
    default = None if lock is None else msgspec.convert(lock, LockDefault)
    return Bucket(id, name, owner, region, created_us, Versioning(versioning), default, snapshot, profile)


def find_bucket(connection: Connection, name: str) -> Bucket:
    """Raises `NoSuchBucket`."""
    row = connection.execute(_BUCKET, {"bucket_name": name}).first()
    if row is None:
        raise NoSuchBucket(bucket=name)
    return bucket_from(with_json(row, _BUCKET_JSON))


def object_from(bucket: Bucket, key: str, row: Row, latest: bool) -> Object:
    about = decode_about(row.about)
    return Object(
        bucket.name,
        key,
        version_id(row.seq, row.flags),
        row.seq,
        row.size,
        row.etag,
        about.headers,
        about.metadata,
        about.checksum,
        about.storage_class,
        about.owner,
        about.parts,
        about.sealed,
        row.tags or {},
        None if row.lock is None else msgspec.convert(row.lock, Lock),
        marker=row.marker,
        latest=latest,
        acl=about.acl,
        versioned=bucket.versioning != Versioning.NEVER,
    )


def read(connection: Connection, bucket_name: str, key: str, version: str | None, as_of_us: int | None) -> Found:
    """The version that a GET means. Raises `NoSuchBucket`, `NoSuchKey`, `NoSuchVersion` or `MethodNotAllowed` (a marker
    by its own name)."""
    if version is None and as_of_us is None:
        joined = newest_joined(connection, bucket_name, key)
        if joined is None:
            find_bucket(connection, bucket_name)
            raise NoSuchKey(key=key)
        return found_in(joined, key)
    bucket = find_bucket(connection, bucket_name)
    newest = newest_there(connection, bucket.id, key)
    if version is not None:
        wanted = find_version(connection, bucket.id, key, version)
        if wanted.marker:
            raise MethodNotAllowed(key=key, version=version, marker=version)
    else:
        at = {"of_bucket": bucket.id, "of_key": key.encode(), "from_rank": -(as_of_us or 0)}
        found = connection.execute(_AS_OF, at).first()
        wanted = Row(*found) if found is not None else None  # type: ignore[assignment]
        if wanted is None or wanted.marker:
            raise NoSuchKey(key=key)
    latest = newest is not None and newest.rank == wanted.rank
    return Found(object_from(bucket, key, wanted, latest), wanted.pieces)


def newest_joined(connection: Connection, bucket_name: str, key: str) -> Joined | None:
    """The newest version of a key with its bucket and its page, as they are stored; None where there is none."""
    return connection.execute(_READ, {"bucket_name": bucket_name, "of_key": key.encode()}).first()


def found_in(joined: Joined, key: str) -> Found:
    """What `newest_joined` gave, read. Raises `NoSuchKey` for a delete marker."""
    of_bucket, of_version, of_page = joined[:_SPLIT], joined[_SPLIT:-5], joined[-5:]
    bucket, row = bucket_from(with_json(of_bucket, _BUCKET_JSON)), Row(*with_json(of_version, _VERSION_JSON))
    if row.marker:
        raise NoSuchKey(key=key, marker=version_id(row.seq, row.flags))
    page = () if of_page[0] is None else (references.unpack_stripe(*of_page),)
    return Found(object_from(bucket, key, row, True), row.pieces, page)


def size_of(joined: Joined) -> int:
    """Roughly how many bytes of metadata a row has."""
    return sum(len(value) for value in joined if isinstance(value, bytes | str))


def with_json(row: Joined, places: tuple[int, ...]) -> Joined:
    """A row whose values at `places` are JSON texts, with what they say."""
    if all(row[place] is None for place in places):
        return row
    return tuple(
        msgspec.json.decode(value) if value is not None and place in places else value
        for place, value in enumerate(row)
    )


def read_for_bytes(
    connection: Connection, bucket_name: str, key: str, version: str | None, as_of_us: int | None
) -> Found:
    """Like `read`, with where every piece lies, so that the bytes can be read whatever becomes of the rows."""
    found = read(connection, bucket_name, key, version, as_of_us)
    if found.stripes or not found.pieces:
        return found
    ids = dict.fromkeys(id for id, _ in stripe_lengths(found.pieces))
    loaded = [references.load(connection, id) for id in islice(ids, STRIPES_AT_ONCE)]
    return Found(found.object, found.pieces, tuple(one for one in loaded if one is not None))


def newest_there(connection: Connection, bucket: int, key: str) -> Row | None:
    """The newest version or marker of a key."""
    return newest(connection, bucket, key)[0]


def find_version(connection: Connection, bucket: int, key: str, version: str) -> Row:
    """Raises `NoSuchVersion`."""
    seq = parse_version(version)
    parameters: dict[str, Any] = {"of_bucket": bucket, "of_key": key.encode()}
    statement = _NULL
    if seq is not None:
        parameters["of_rank"], statement = -seq, _ONE
    row = connection.execute(statement, parameters).first()
    if row is None or (seq is not None and row[1] & Flags.NULL_VERSION):
        raise NoSuchVersion(key=key, version=version)
    return Row(*row)


def name_of(row: Row) -> str:
    """The public name of a version."""
    return version_id(row.seq, row.flags)


def find_version_in(connection: Connection, bucket_name: str, key: str, version: str) -> Row:
    """Like `find_version`, by the bucket's name."""
    return find_version(connection, find_bucket(connection, bucket_name).id, key, version)


def find_current(connection: Connection, bucket: int, key: str, version: str | None) -> Row:
    """The version named, or the newest. Raises `NoSuchKey`, `NoSuchVersion` or `MethodNotAllowed`."""
    row = newest_there(connection, bucket, key) if version is None else find_version(connection, bucket, key, version)
    if row is None or (row.marker and version is None):
        raise NoSuchKey(key=key)
    if row.marker:
        raise MethodNotAllowed(key=key, version=version)
    return row


def find_null(connection: Connection, bucket: int, key: str) -> Row | None:
    """The null version of a key, wherever it lies among the others."""
    found = connection.execute(_NULL, {"of_bucket": bucket, "of_key": key.encode()}).first()
    return None if found is None else Row(*found)


def newest(connection: Connection, bucket: int, key: str) -> tuple[Row | None, int]:
    """The newest version that is there, and the highest sequence number that the key has ever had and still shows."""
    where = {"of_bucket": bucket, "of_key": key.encode()}
    first = connection.execute(_NEWEST, where).first()
    if first is None:
        return None, 0
    if first[2] is None:
        return Row(*first), -first[0]
    there = connection.execute(_NEWEST_THERE, where).first()
    return (None if there is None else Row(*there)), -first[0]
