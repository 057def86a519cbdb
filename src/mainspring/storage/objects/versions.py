"""The rows of versions: finding one, putting one in the place of another, deleting. All of it inside a transaction.

A key's versions lie newest first. In a bucket that never had versioning every version is the null version, and a new one
replaces it; with versioning enabled nothing is replaced and a delete puts a marker on top; suspended is versioning with null
versions on top. A row that ends while a listing in pages may still show it is kept, marked `gone`, until that has expired.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import and_, bindparam, insert, update

from mainspring.core.crash import crash_point
from mainspring.core.database import Json
from mainspring.core.ports import Connection
from mainspring.storage.objects import lookups, references
from mainspring.storage.objects.conditions import ALWAYS, WriteIf
from mainspring.storage.objects.errors import (
    Locked,
    NoSuchVersion,
    ServiceUnavailable,
)
from mainspring.storage.objects.events import emit
from mainspring.storage.objects.lookups import Row
from mainspring.storage.objects.model import (
    About,
    Bucket,
    Deleted,
    Flags,
    Lock,
    Object,
    Versioning,
    encode_about,
    version_id,
)
from mainspring.storage.objects.numbering import Numbers
from mainspring.storage.objects.references import Stripe
from mainspring.storage.objects.tables import version as versions

_v = versions.c
_OF_KEY = and_(_v.bucket == bindparam("of_bucket"), _v.key == bindparam("of_key"))
_INSERT = insert(versions).values({column.name: bindparam(column.name) for column in versions.c})
_DELETE = sa.delete(versions).where(_OF_KEY, _v.rank == bindparam("of_rank"))
_RETIRE = (
    update(versions).where(_OF_KEY, _v.rank == bindparam("of_rank")).values(gone=bindparam("at"), page=None, pieces=b"")
)
_SET_TAGS = update(versions).where(_OF_KEY, _v.rank == bindparam("of_rank")).values(tags=bindparam("to", type_=Json))
_SET_LOCK = update(versions).where(_OF_KEY, _v.rank == bindparam("of_rank")).values(lock=bindparam("to", type_=Json))
_SET_ABOUT = update(versions).where(_OF_KEY, _v.rank == bindparam("of_rank")).values(about=bindparam("to"))


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


def put(connection: Connection, numbers: Numbers, bucket: Bucket, draft: Draft) -> Placed:
    """Makes `draft` the newest version of its key. Raises what its condition raises, having changed nothing."""
    numbers.note_change(bucket.id)
    row, highest = lookups.newest(connection, bucket.id, draft.key)
    draft.condition.check(_standing(row), draft.key)
    seq = max(numbers.next_in(connection), highest + 1)
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
    return put(connection, numbers, lookups.find_bucket(connection, bucket_name), draft)


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
    bucket = lookups.find_bucket(connection, bucket_name)
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
    row, highest = lookups.newest(connection, bucket.id, key)
    if version is not None:
        return _remove_version(connection, numbers, bucket, key, version, condition, bypass_governance, event)
    condition.check(_standing(row), key)
    if bucket.versioning == Versioning.NEVER:
        if row is None:
            return Deleted(key, None, False)
        seq = max(numbers.next_in(connection), highest + 1)
        end(connection, numbers, bucket, key, row, seq)
        emit(connection, bucket.name, f"{event}:Delete", key, seq, version_id(row.seq, row.flags), row.size, row.etag)
        return Deleted(key, None, False)
    seq = max(numbers.next_in(connection), highest + 1)
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
        row = lookups.find_version(connection, bucket.id, key, version)
    except NoSuchVersion:
        return Deleted(key, version, False)
    condition.check(_standing(row), key)
    seq = numbers.next_in(connection)
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
    bucket = lookups.find_bucket(connection, bucket_name)
    row = lookups.find_current(connection, bucket.id, key, version)
    statements = {"tags": _SET_TAGS, "lock": _SET_LOCK, "about": _SET_ABOUT}
    for name, value in make(bucket, row).items():
        parameters = {"of_bucket": bucket.id, "of_key": key.encode(), "of_rank": row.rank, "to": value}
        connection.execute(statements[name], parameters)
    made = version_id(row.seq, row.flags)
    emit(connection, bucket.name, event, key, numbers.next_in(connection), made, row.size, row.etag)
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
        row = lookups.find_null(connection, bucket.id, key)
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
