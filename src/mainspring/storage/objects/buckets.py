"""Rows of buckets and their settings: one document per kind, stored as the door gives it; the engine reads those it acts on."""

from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select, update

from mainspring.core.database import Int64, Json, Text
from mainspring.core.ports import Connection
from mainspring.storage.objects.errors import (
    BucketAlreadyExists,
    BucketAlreadyOwnedByYou,
    BucketNotEmpty,
    InvalidBucketState,
    NoSuchConfiguration,
)
from mainspring.storage.objects.events import emit
from mainspring.storage.objects.lookups import bucket_from, find_bucket
from mainspring.storage.objects.model import Bucket, LockDefault, Versioning
from mainspring.storage.objects.tables import bucket, setting, upload, version

BUCKETS_PAGE_MAX = 10_000

_INSERT = insert(bucket).values(
    {
        name: bindparam(name)
        for name in ("name", "owner", "region", "created_us", "versioning", "lock", "snapshot", "profile")
    }
)
_DELETE = delete(bucket).where(bucket.c.id == bindparam("bucket_id"))
_LIST = (
    select(*bucket.c)
    .where(bucket.c.name > bindparam("after"), bucket.c.name >= bindparam("prefix"), bucket.c.name < bindparam("end"))
    .where(func.coalesce(bindparam("of_owner", type_=Text), bucket.c.owner) == bucket.c.owner)
    .order_by(bucket.c.name)
    .limit(bindparam("count"))
)
_ANY_VERSION = (
    select(version.c.rank).where(version.c.bucket == bindparam("bucket_id"), version.c.gone.is_(None)).limit(1)
)
_ANY_UPLOAD = select(upload.c.id).where(upload.c.bucket == bindparam("bucket_id")).limit(1)
_DELETE_GONE = delete(version).where(version.c.bucket == bindparam("bucket_id"))
_DELETE_SETTINGS = delete(setting).where(setting.c.bucket == bindparam("bucket_id"))
_SET = {
    name: update(bucket).where(bucket.c.id == bindparam("bucket_id")).values({name: bindparam("to", type_=kind)})
    for name, kind in (("versioning", Int64), ("lock", Json), ("profile", Text))
}
_SHOW = (
    update(bucket)
    .where(bucket.c.id == bindparam("bucket_id"), bucket.c.snapshot < bindparam("at", type_=Int64))
    .values(snapshot=bindparam("at", type_=Int64))
)
_SETTING = select(setting.c.document).where(
    setting.c.bucket == bindparam("bucket_id"), setting.c.kind == bindparam("of_kind")
)
_SETTINGS = select(setting.c.kind, setting.c.document).where(setting.c.bucket == bindparam("bucket_id"))
_DELETE_SETTING = delete(setting).where(
    setting.c.bucket == bindparam("bucket_id"), setting.c.kind == bindparam("of_kind")
)
_INSERT_SETTING = insert(setting).values({name: bindparam(name) for name in ("bucket", "kind", "document")})
_WITH_SETTING = (
    select(bucket.c.name, setting.c.document)
    .select_from(bucket.join(setting, setting.c.bucket == bucket.c.id))
    .where(setting.c.kind == bindparam("of_kind"), bucket.c.name > bindparam("after"))
    .order_by(bucket.c.name)
    .limit(1)
)


def create(connection: Connection, name: str, owner: str, region: str, lock: bool, now_us: int) -> Bucket:
    """Makes a bucket; with `lock` it has object lock, and so versioning. Raises `BucketAlreadyOwnedByYou` or
    `BucketAlreadyExists`."""
    there = list_some(connection, None, name, "", 1)
    if there and there[0].name == name:
        raise BucketAlreadyOwnedByYou(bucket=name) if there[0].owner == owner else BucketAlreadyExists(bucket=name)
    values: dict[str, Any] = {
        "name": name,
        "owner": owner,
        "region": region,
        "created_us": now_us,
        "versioning": int(Versioning.ENABLED if lock else Versioning.NEVER),
        "lock": LockDefault() if lock else None,
        "snapshot": 0,
        "profile": None,
    }
    connection.execute(_INSERT, values)
    emit(connection, name, "BucketCreated", "", now_us, "", 0, "")
    return find_bucket(connection, name)


def remove(connection: Connection, name: str, now_us: int) -> None:
    """Raises `NoSuchBucket` or `BucketNotEmpty`."""
    one = find_bucket(connection, name)
    parameters = {"bucket_id": one.id}
    if connection.execute(_ANY_VERSION, parameters).first() is not None:
        raise BucketNotEmpty("The bucket you tried to delete is not empty. You must delete all versions in the bucket.")
    if connection.execute(_ANY_UPLOAD, parameters).first() is not None:
        raise BucketNotEmpty("The bucket you tried to delete has open multipart uploads.")
    connection.execute(_DELETE_GONE, parameters)
    connection.execute(_DELETE_SETTINGS, parameters)
    connection.execute(_DELETE, parameters)
    emit(connection, name, "BucketRemoved", "", now_us, "", 0, "")


def list_some(connection: Connection, owner: str | None, prefix: str, after: str, count: int) -> list[Bucket]:
    """The next `count` buckets by name, of one owner or of all."""
    parameters = {"of_owner": owner, "prefix": prefix, "after": after, "end": prefix + "\x7f", "count": count}
    return [bucket_from(row) for row in connection.execute(_LIST, parameters).all()]


def set_versioning(connection: Connection, name: str, versioning: Versioning) -> None:
    """Raises `InvalidBucketState` where object lock needs versioning to stay enabled."""
    one = find_bucket(connection, name)
    if one.lock is not None and versioning != Versioning.ENABLED:
        raise InvalidBucketState(
            "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed."
        )
    connection.execute(_SET["versioning"], {"bucket_id": one.id, "to": int(versioning)})


def set_lock(connection: Connection, name: str, default: LockDefault) -> None:
    """Turns object lock on, or changes what new versions get. Raises `InvalidBucketState` without versioning."""
    one = find_bucket(connection, name)
    if one.versioning != Versioning.ENABLED:
        raise InvalidBucketState("Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration")
    connection.execute(_SET["lock"], {"bucket_id": one.id, "to": default})


def set_profile(connection: Connection, name: str, profile: str | None) -> None:
    one = find_bucket(connection, name)
    connection.execute(_SET["profile"], {"bucket_id": one.id, "to": profile})


def show(connection: Connection, id: int, at: int) -> None:
    """Says that a listing in pages shows what is there at `at`: rows that end later are kept for it."""
    connection.execute(_SHOW, {"bucket_id": id, "at": at})


def read_setting(connection: Connection, name: str, kind: str) -> bytes:
    """Raises `NoSuchBucket` or `NoSuchConfiguration`."""
    one = find_bucket(connection, name)
    document: bytes | None = connection.execute(_SETTING, {"bucket_id": one.id, "of_kind": kind}).scalar()
    if document is None:
        raise NoSuchConfiguration(bucket=name, kind=kind)
    return document


def read_settings(connection: Connection, name: str) -> tuple[Bucket, dict[str, bytes]]:
    """A bucket with all of its settings, by kind."""
    one = find_bucket(connection, name)
    return one, {row[0]: row[1] for row in connection.execute(_SETTINGS, {"bucket_id": one.id}).all()}


def write_setting(connection: Connection, name: str, kind: str, document: bytes | None) -> None:
    """Stores a document, or with None forgets it."""
    one = find_bucket(connection, name)
    connection.execute(_DELETE_SETTING, {"bucket_id": one.id, "of_kind": kind})
    if document is not None:
        connection.execute(_INSERT_SETTING, {"bucket": one.id, "kind": kind, "document": document})


def next_with_setting(connection: Connection, kind: str, after: str) -> tuple[str, bytes] | None:
    """The next bucket by name that has a setting of this kind, with its document."""
    row = connection.execute(_WITH_SETTING, {"of_kind": kind, "after": after}).first()
    return None if row is None else (row[0], row[1])


def names_with_setting(connection: Connection, kind: str, most: int) -> list[str]:
    """The first `most` buckets by name that have a setting of this kind."""
    names: list[str] = []
    while len(names) < most and (found := next_with_setting(connection, kind, names[-1] if names else "")) is not None:
        names.append(found[0])
    return names
