"""The rows of versions: finding one, putting one in the place of another, deleting. All of it inside a transaction.

A key's versions lie newest first. In a bucket that never had versioning every version is the null version, and a new one
replaces it; with versioning enabled nothing is replaced and a delete puts a marker on top; suspended is versioning with null
versions on top. A row that ends while a listing in pages may still show it is kept, marked `gone`, until that has expired.
"""

import threading
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import and_, bindparam, insert, select, update

from mainspring.core.clock import Clock
from mainspring.core.crash import crash_point
from mainspring.core.database import Int64, Json
from mainspring.core.ports import Connection
from mainspring.storage.objects import references
from mainspring.storage.objects.conditions import ALWAYS, WriteIf
from mainspring.storage.objects.errors import (
    Locked,
    MethodNotAllowed,
    NoSuchBucket,
    NoSuchKey,
    NoSuchVersion,
    ServiceUnavailable,
)
from mainspring.storage.objects.events import emit
from mainspring.storage.objects.model import (
    About,
    Bucket,
    Deleted,
    Flags,
    Lock,
    LockDefault,
    Object,
    Versioning,
    decode_about,
    encode_about,
    parse_version,
    stripe_lengths,
    version_id,
)
from mainspring.storage.objects.references import Stripe
from mainspring.storage.objects.tables import bucket as buckets
from mainspring.storage.objects.tables import stripe as stripes
from mainspring.storage.objects.tables import version as versions

BUCKETS_NOTED = 10_000
STRIPES_AT_ONCE = 1024
"""Beyond so many stripes of one object (8 GiB) a reader finds them as it comes to them."""

_v = versions.c
_COLUMNS = (_v.rank, _v.flags, _v.gone, _v.size, _v.etag, _v.page, _v.pieces, _v.about, _v.tags, _v.lock)
_OF_KEY = and_(_v.bucket == bindparam("of_bucket"), _v.key == bindparam("of_key"))
_BUCKET_COLUMNS = tuple(buckets.c)

_BUCKET = select(*_BUCKET_COLUMNS).where(buckets.c.name == bindparam("bucket_name"))
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
_READ = (
    select(*_BUCKET_COLUMNS, *_COLUMNS, *_STRIPE_COLUMNS)
    .select_from(
        buckets.join(
            versions, and_(_v.bucket == buckets.c.id, _v.key == bindparam("of_key"), _v.gone.is_(None))
        ).outerjoin(stripes, stripes.c.id == _v.page)
    )
    .where(buckets.c.name == bindparam("bucket_name"))
    .order_by(_v.rank)
    .limit(1)
)
_INSERT = insert(versions).values({column.name: bindparam(column.name) for column in versions.c})
_DELETE = sa.delete(versions).where(_OF_KEY, _v.rank == bindparam("of_rank"))
_RETIRE = (
    update(versions).where(_OF_KEY, _v.rank == bindparam("of_rank")).values(gone=bindparam("at"), page=None, pieces=b"")
)
_SET_TAGS = update(versions).where(_OF_KEY, _v.rank == bindparam("of_rank")).values(tags=bindparam("to", type_=Json))
_SET_LOCK = update(versions).where(_OF_KEY, _v.rank == bindparam("of_rank")).values(lock=bindparam("to", type_=Json))
_SET_ABOUT = update(versions).where(_OF_KEY, _v.rank == bindparam("of_rank")).values(about=bindparam("to"))


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


class Draft(msgspec.Struct):
    """A version that is to be: everything but its place in time. `pieces` are already referred to on its behalf."""

    key: str
    size: int
    etag: str
    pieces: bytes
    about: About
    page: int | None = None
    tags: dict[str, str] | None = None
    lock: Lock | None = None
    condition: WriteIf = ALWAYS
    event: str = "ObjectCreated:Put"


class Placed(msgspec.Struct, frozen=True):
    """What became of a draft."""

    version: str
    seq: int
    lock: Lock | None
    versioned: bool


class Found(msgspec.Struct, frozen=True):
    """A version with what is needed to read it: its pieces, and where they lie."""

    object: Object
    pieces: bytes
    stripes: tuple[Stripe, ...] = ()


class Numbers:
    """Numbers for versions: microseconds UTC, each greater than the last in this process, whatever the clock does."""

    def __init__(self, clock: Clock, snapshot_s: int) -> None:
        self.snapshot_us = snapshot_s * 1_000_000
        self._clock = clock
        self._last = 0
        self._lock = threading.Lock()
        self._changed: dict[int, int] = {}
        self._fixed: dict[int, int] = {}

    def note_change(self, bucket: int) -> None:
        """What a bucket shows is about to change; called inside the transaction, whether it commits or not."""
        if len(self._changed) >= BUCKETS_NOTED:
            self._fixed.clear()
            self._changed.clear()
        self._changed[bucket] = self.next()

    def note_moment(self, bucket: int, at: int) -> None:
        """Rows are kept for listings that show the bucket at `at`."""
        self._fixed[bucket] = at

    def quiet_moment(self, bucket: int) -> int | None:
        """A moment for which rows are kept and since which nothing was changed here, young enough for a new listing."""
        at = self._fixed.get(bucket)
        if at is None or self._changed.get(bucket, 0) >= at or at < self.now_us() - self.snapshot_us // 2:
            return None
        return at

    def next(self) -> int:
        with self._lock:
            self._last = max(self._last + 1, self._clock.wall_ns() // 1000)
            return self._last

    def now_us(self) -> int:
        return self._clock.wall_ns() // 1000


Make = Callable[[Bucket, Row], dict[str, Any]]


def made_object(bucket: str, draft: Draft, placed: Placed) -> Object:
    """The object that a draft has become."""
    about = draft.about
    return Object(
        bucket,
        draft.key,
        placed.version,
        placed.seq,
        draft.size,
        draft.etag,
        about.headers,
        about.metadata,
        about.checksum,
        about.storage_class,
        about.owner,
        about.parts,
        about.sealed,
        draft.tags or {},
        placed.lock,
        acl=about.acl,
        versioned=placed.versioned,
    )


def bucket_from(row: Any) -> Bucket:
    id, name, owner, region, created_us, versioning, lock, snapshot, profile = row
    default = None if lock is None else msgspec.convert(lock, LockDefault)
    return Bucket(id, name, owner, region, created_us, Versioning(versioning), default, snapshot, profile)


def find_bucket(connection: Connection, name: str) -> Bucket:
    """Raises `NoSuchBucket`."""
    row = connection.execute(_BUCKET, {"bucket_name": name}).first()
    if row is None:
        raise NoSuchBucket(bucket=name)
    return bucket_from(row)


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
        joined = connection.execute(_READ, {"bucket_name": bucket_name, "of_key": key.encode()}).first()
        if joined is None:
            find_bucket(connection, bucket_name)
            raise NoSuchKey(key=key)
        bucket, row = bucket_from(joined[: len(_BUCKET_COLUMNS)]), Row(*joined[len(_BUCKET_COLUMNS) : -5])
        if row.marker:
            raise NoSuchKey(key=key, marker=version_id(row.seq, row.flags))
        page = () if joined[-5] is None else (references.unpack_stripe(*joined[-5:]),)
        return Found(object_from(bucket, key, row, True), row.pieces, page)
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
    return _newest(connection, bucket, key)[0]


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


def put(connection: Connection, numbers: Numbers, bucket: Bucket, draft: Draft) -> Placed:
    """Makes `draft` the newest version of its key. Raises what its condition raises, having changed nothing."""
    numbers.note_change(bucket.id)
    row, highest = _newest(connection, bucket.id, draft.key)
    draft.condition.check(_standing(row), draft.key)
    seq = max(numbers.next(), highest + 1)
    enabled = bucket.versioning == Versioning.ENABLED
    if not enabled:
        _replace_null(connection, numbers, bucket, draft.key, row, seq)
    lock = draft.lock
    if lock is None and bucket.lock is not None:
        lock = bucket.lock.lock(seq)
    flags = 0 if enabled else Flags.NULL_VERSION
    _insert(connection, bucket.id, draft, -seq, flags, lock)
    crash_point("objects.version.inserted")
    version = version_id(seq, flags)
    emit(connection, bucket.name, draft.event, draft.key, seq, version, draft.size, draft.etag)
    return Placed(version, seq, lock, bucket.versioning != Versioning.NEVER)


def put_stripes(
    connection: Connection, numbers: Numbers, bucket_name: str, stripes: Sequence[tuple[Stripe, int]], draft: Draft
) -> Placed:
    """Like `put`, with the stripes that `draft` refers to."""
    for stripe, live in stripes:
        references.insert_stripe(connection, stripe, live)
    return put(connection, numbers, find_bucket(connection, bucket_name), draft)


def delete(
    connection: Connection,
    numbers: Numbers,
    bucket_name: str,
    key: str,
    version: str | None,
    condition: WriteIf,
    bypass_governance: bool,
) -> Deleted:
    """Like `remove`, by the bucket's name."""
    bucket = find_bucket(connection, bucket_name)
    return remove(connection, numbers, bucket, key, version, condition, bypass_governance)


def remove(
    connection: Connection,
    numbers: Numbers,
    bucket: Bucket,
    key: str,
    version: str | None = None,
    condition: WriteIf = ALWAYS,
    bypass_governance: bool = False,
    event: str = "ObjectRemoved",
) -> Deleted:
    """Deletes a key (with versioning: puts a marker on it) or, for good, one version. Raises `Locked`."""
    numbers.note_change(bucket.id)
    row, highest = _newest(connection, bucket.id, key)
    if version is not None:
        return _remove_version(connection, numbers, bucket, key, version, condition, bypass_governance, event)
    condition.check(_standing(row), key)
    if bucket.versioning == Versioning.NEVER:
        if row is None:
            return Deleted(key, None, False)
        seq = max(numbers.next(), highest + 1)
        end(connection, numbers, bucket, key, row, seq)
        emit(connection, bucket.name, f"{event}:Delete", key, seq, version_id(row.seq, row.flags), row.size, row.etag)
        return Deleted(key, None, False)
    seq = max(numbers.next(), highest + 1)
    flags = Flags.DELETE_MARKER
    if bucket.versioning == Versioning.SUSPENDED:
        _replace_null(connection, numbers, bucket, key, row, seq)
        flags |= Flags.NULL_VERSION
    _insert(connection, bucket.id, Draft(key, 0, "", b"", About()), -seq, flags, None)
    name = version_id(seq, flags)
    emit(connection, bucket.name, f"{event}:DeleteMarkerCreated", key, seq, name, 0, "")
    return Deleted(key, name, True)


def _remove_version(
    connection: Connection,
    numbers: Numbers,
    bucket: Bucket,
    key: str,
    version: str,
    condition: WriteIf,
    bypass_governance: bool,
    event: str,
) -> Deleted:
    try:
        row = find_version(connection, bucket.id, key, version)
    except NoSuchVersion:
        return Deleted(key, version, False)
    condition.check(_standing(row), key)
    seq = numbers.next()
    if row.lock is not None and msgspec.convert(row.lock, Lock).protects(seq, bypass_governance):
        raise Locked(key=key, version=version)
    end(connection, numbers, bucket, key, row, seq)
    emit(connection, bucket.name, f"{event}:Delete", key, seq, version, row.size, row.etag)
    return Deleted(key, version, row.marker)


def change(
    connection: Connection,
    numbers: Numbers,
    bucket_name: str,
    key: str,
    version: str | None,
    event: str,
    make: Make,
) -> str:
    """Sets what `make` gives (`tags`, `lock` or `about`) on a version; gives the version's name."""
    bucket = find_bucket(connection, bucket_name)
    row = find_current(connection, bucket.id, key, version)
    statements = {"tags": _SET_TAGS, "lock": _SET_LOCK, "about": _SET_ABOUT}
    for name, value in make(bucket, row).items():
        parameters = {"of_bucket": bucket.id, "of_key": key.encode(), "of_rank": row.rank, "to": value}
        connection.execute(statements[name], parameters)
    made = version_id(row.seq, row.flags)
    emit(connection, bucket.name, event, key, numbers.next(), made, row.size, row.etag)
    return made


def set_about(connection: Connection, bucket: Bucket, key: str, row: Row, about: bytes) -> None:
    """Replaces what is known of a version."""
    where = {"of_bucket": bucket.id, "of_key": key.encode(), "of_rank": row.rank}
    connection.execute(_SET_ABOUT, {**where, "to": about})


def end(connection: Connection, numbers: Numbers, bucket: Bucket, key: str, row: Row, seq: int) -> None:
    """Ends a version at `seq`: its bytes are released, its row goes, or is kept for a listing that shows it."""
    if row.pieces:
        references.release(connection, row.pieces)
    crash_point("objects.version.released")
    drop(connection, numbers, bucket, key, row, seq)


def drop(connection: Connection, numbers: Numbers, bucket: Bucket, key: str, row: Row, seq: int) -> None:
    """Ends a version's row whose bytes are another's by now."""
    where = {"of_bucket": bucket.id, "of_key": key.encode(), "of_rank": row.rank}
    if row.seq <= bucket.snapshot and bucket.snapshot > seq - numbers.snapshot_us:
        connection.execute(_RETIRE, {**where, "at": seq})
    else:
        connection.execute(_DELETE, where)


def refer(connection: Connection, pieces: bytes) -> None:
    """Adds references on behalf of a copy. Raises `ServiceUnavailable` where the source has gone meanwhile."""
    if not references.refer(connection, pieces):
        raise ServiceUnavailable("the source was deleted while it was copied")


def _newest(connection: Connection, bucket: int, key: str) -> tuple[Row | None, int]:
    """The newest version that is there, and the highest sequence number that the key has ever had and still shows."""
    where = {"of_bucket": bucket, "of_key": key.encode()}
    first = connection.execute(_NEWEST, where).first()
    if first is None:
        return None, 0
    if first[2] is None:
        return Row(*first), -first[0]
    there = connection.execute(_NEWEST_THERE, where).first()
    return (None if there is None else Row(*there)), -first[0]


def _standing(row: Row | None) -> tuple[str, int, int] | None:
    return None if row is None or row.marker else (row.etag, row.size, row.seq)


def _replace_null(
    connection: Connection, numbers: Numbers, bucket: Bucket, key: str, newest: Row | None, seq: int
) -> None:
    """Ends the null version of a key, which a new one is about to replace."""
    if newest is None:
        return
    row: Row | None = newest
    if not newest.flags & Flags.NULL_VERSION:
        found = connection.execute(_NULL, {"of_bucket": bucket.id, "of_key": key.encode()}).first()
        row = None if found is None else Row(*found)
    if row is None:
        return
    if row.lock is not None and msgspec.convert(row.lock, Lock).protects(seq):
        raise Locked(key=key, version="null")
    end(connection, numbers, bucket, key, row, seq)


def _insert(connection: Connection, bucket: int, draft: Draft, rank: int, flags: int, lock: Lock | None) -> None:
    connection.execute(
        _INSERT,
        {
            "bucket": bucket,
            "key": draft.key.encode(),
            "rank": rank,
            "flags": flags,
            "gone": None,
            "size": draft.size,
            "etag": draft.etag,
            "page": draft.page,
            "pieces": draft.pieces,
            "about": encode_about(draft.about),
            "tags": draft.tags or None,
            "lock": lock,
        },
    )
