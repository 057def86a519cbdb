"""What moves no byte: copies, renames, and commits of many keys at once, each one transaction, all of it or nothing.

A copy refers to the pieces of its source. A renamed object in a bucket without versioning takes its pieces along; with
versioning the old name keeps its versions under a delete marker.
"""

from collections.abc import Sequence

import msgspec
from sqlalchemy import and_, bindparam, select

from mainspring.core.database import Bytes
from mainspring.core.ports import Connection
from mainspring.storage.objects import lookups, multipart, references, versions
from mainspring.storage.objects.conditions import ALWAYS, ReadIf, WriteIf
from mainspring.storage.objects.errors import InvalidRequest, NoSuchKey, ObjectsError
from mainspring.storage.objects.listing import beyond
from mainspring.storage.objects.lookups import Row
from mainspring.storage.objects.model import About, Bucket, Deleted, Lock, Versioning, decode_about, key_bytes
from mainspring.storage.objects.multipart import Wanted
from mainspring.storage.objects.numbering import Numbers
from mainspring.storage.objects.references import Stripe
from mainspring.storage.objects.tables import version
from mainspring.storage.objects.versions import Draft, Placed

RENAMES_MAX = 10_000
OPERATIONS_MAX = 1_000

_KEYS = (
    select(version.c.key)
    .where(
        and_(
            version.c.bucket == bindparam("of_bucket"),
            version.c.key >= bindparam("start", type_=Bytes),
            version.c.key < bindparam("end", type_=Bytes),
            version.c.gone.is_(None),
        )
    )
    .distinct()
    .order_by(version.c.key)
    .limit(bindparam("count"))
)


class Source(msgspec.Struct, frozen=True):
    """What a copy is made from."""

    bucket: str
    key: str
    version: str | None = None
    condition: ReadIf = ReadIf()


class Changes(msgspec.Struct, frozen=True):
    """What a copy has of its own; None is what the source has."""

    headers: dict[str, str] | None = None
    metadata: dict[str, str] | None = None
    tags: dict[str, str] | None = None
    lock: Lock | None = None
    storage_class: str | None = None
    owner: str | None = None
    acl: bytes = b""


class Put(msgspec.Struct):
    """An object whose body is staged already."""

    draft: Draft


class Copy(msgspec.Struct, frozen=True):
    source: Source
    key: str
    condition: WriteIf = ALWAYS
    changes: Changes = Changes()


class Complete(msgspec.Struct, frozen=True):
    """An upload in parts, which is a staged put of any size."""

    key: str
    upload: str
    parts: tuple[Wanted, ...]
    condition: WriteIf = ALWAYS


class Delete(msgspec.Struct, frozen=True):
    key: str
    version: str | None = None
    condition: WriteIf = ALWAYS
    bypass_governance: bool = False


Operation = Copy | Complete | Delete
Done = tuple[Draft, Placed] | Deleted


def copy(
    connection: Connection,
    numbers: Numbers,
    source: Source,
    target_bucket: str,
    key: str,
    condition: WriteIf,
    own: Changes,
) -> tuple[Draft, Placed, str]:
    """Copies by reference; gives also the version of the source. Raises what its conditions raise."""
    origin = lookups.find_bucket(connection, source.bucket)
    row = lookups.find_current(connection, origin.id, source.key, source.version)
    source.condition.check(row.etag, row.seq, prefix="x-amz-copy-source-")
    target = origin if target_bucket == source.bucket else lookups.find_bucket(connection, target_bucket)
    draft = draft_from(row, key, condition, own)
    versions.refer(connection, row.pieces)
    placed = versions.put(connection, numbers, target, draft)
    return draft, placed, lookups.name_of(row)


def draft_from(row: Row, key: str, condition: WriteIf, own: Changes) -> Draft:
    """A version like `row`, but for what a copy has of its own."""
    about = decode_about(row.about)
    about = About(
        about.headers if own.headers is None else own.headers,
        about.metadata if own.metadata is None else own.metadata,
        about.checksum,
        own.storage_class or about.storage_class,
        about.owner if own.owner is None else own.owner,
        about.parts,
        about.sealed,
        acl=own.acl,
    )
    tags = row.tags if own.tags is None else own.tags
    return Draft(key, row.size, row.etag, row.pieces, about, row.page, tags, own.lock, condition, "ObjectCreated:Copy")


def rename(
    connection: Connection, numbers: Numbers, bucket_name: str, source: str, target: str, condition: WriteIf
) -> tuple[Draft, Placed]:
    """Gives the newest version of `source` the key `target`. Raises `NoSuchKey`, `InvalidRequest`, `Locked`."""
    if source == target:
        raise InvalidRequest("A key cannot be renamed to itself")
    return _rename(connection, numbers, lookups.find_bucket(connection, bucket_name), source, target, condition)


def rename_prefix(connection: Connection, numbers: Numbers, bucket_name: str, source: str, target: str) -> int:
    """Renames every key that begins with `source`, at once; gives how many. Raises `InvalidRequest` past 10,000, or where
    one prefix begins with the other."""
    if source.startswith(target) or target.startswith(source):
        raise InvalidRequest("One of the prefixes begins with the other")
    bucket = lookups.find_bucket(connection, bucket_name)
    start = source.encode()
    span = {"of_bucket": bucket.id, "start": start, "end": beyond(start), "count": RENAMES_MAX + 1}
    keys = [row[0].decode() for row in connection.execute(_KEYS, span).all()]
    if len(keys) > RENAMES_MAX:
        raise InvalidRequest(f"More than {RENAMES_MAX} keys begin with this prefix")
    renamed = 0
    for key in keys:
        row = lookups.newest_there(connection, bucket.id, key)
        if row is not None and not row.marker:
            new_key = target + key[len(source) :]
            key_bytes(new_key)
            _rename(connection, numbers, bucket, key, new_key, ALWAYS)
            renamed += 1
    if not renamed:
        raise NoSuchKey(key=source)
    return renamed


def commit(
    connection: Connection,
    numbers: Numbers,
    bucket_name: str,
    stripes: Sequence[tuple[Stripe, int]],
    operations: Sequence[Put | Operation],
    part_bytes_min: int,
) -> list[Done]:
    """Does all of `operations`, in their order, or raises what the first refused one raises, and nothing is done."""
    bucket = lookups.find_bucket(connection, bucket_name)
    for stripe, live in stripes:
        references.insert_stripe(connection, stripe, live)
    done: list[Done] = []
    for number, one in enumerate(operations):
        try:
            done.append(_do(connection, numbers, bucket, one, part_bytes_min))
        except ObjectsError as refusal:
            refusal.more["operation"] = number
            raise
    return done


def _do(connection: Connection, numbers: Numbers, bucket: Bucket, one: Put | Operation, part_bytes_min: int) -> Done:
    match one:
        case Put(draft):
            return draft, versions.put(connection, numbers, bucket, draft)
        case Copy(source, key, condition, changes):
            return copy(connection, numbers, source, bucket.name, key, condition, changes)[:2]
        case Complete(key, upload, parts, condition):
            return multipart.complete(
                connection, numbers, bucket.name, key, upload, parts, condition, part_bytes_min=part_bytes_min
            )
        case Delete(key, name, condition, bypass):
            return versions.remove(connection, numbers, bucket, key, name, condition, bypass)


def _rename(
    connection: Connection, numbers: Numbers, bucket: Bucket, source: str, target: str, condition: WriteIf
) -> tuple[Draft, Placed]:
    row = lookups.find_current(connection, bucket.id, source, None)
    about = decode_about(row.about)
    lock = None if row.lock is None else msgspec.convert(row.lock, Lock)
    draft = Draft(target, row.size, row.etag, row.pieces, about, row.page, row.tags, lock, condition, "ObjectRenamed")
    if bucket.versioning == Versioning.NEVER:
        versions.drop(connection, numbers, bucket, source, row, numbers.next_in(connection))
        return draft, versions.put(connection, numbers, bucket, draft)
    versions.refer(connection, row.pieces)
    versions.remove(connection, numbers, bucket, source)
    return draft, versions.put(connection, numbers, bucket, draft)
