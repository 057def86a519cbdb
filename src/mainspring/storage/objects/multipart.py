"""Uploads in parts, inside transactions: a part is a row that refers to stripes; completing hands the references over.

Nothing of an upload is visible before it is completed, and completing reads no body again: the object's pieces are those of
its parts, its ETag the MD5 of their MD5s, its checksum composed or combined from theirs.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import and_, bindparam, delete, func, insert, or_, select

from mainspring.core.database import Bytes, Int64, Text
from mainspring.core.ports import Connection
from mainspring.storage.objects import checksums, lookups, references, versions
from mainspring.storage.objects.conditions import ALWAYS, WriteIf
from mainspring.storage.objects.errors import (
    BadDigest,
    EntityTooSmall,
    InvalidArgument,
    InvalidPart,
    InvalidPartOrder,
    InvalidRequest,
    NoSuchUpload,
    SlowDown,
)
from mainspring.storage.objects.model import About, Bucket, Checksum, Lock, Part, decode_about, encode_about
from mainspring.storage.objects.numbering import Numbers
from mainspring.storage.objects.references import Stripe
from mainspring.storage.objects.tables import part as parts
from mainspring.storage.objects.tables import upload as uploads
from mainspring.storage.objects.versions import Draft, Placed

PARTS_MAX = 10_000

_u, _p = uploads.c, parts.c
_WHERE = and_(_u.bucket == bindparam("of_bucket"), _u.key == bindparam("of_key"), _u.id == bindparam("of_upload"))
_INSERT = insert(uploads).values({column.name: bindparam(column.name) for column in _u})
_FIND = select(_u.begun_us, _u.about, _u.tags, _u.lock).where(_WHERE)
_DELETE = delete(uploads).where(_WHERE)
_COUNT = select(func.count()).select_from(uploads).where(_u.bucket == bindparam("of_bucket"))
_PART_COLUMNS = (_p.number, _p.size, _p.etag, _p.modified_us, _p.pieces, _p.about)
_PARTS = (
    select(*_PART_COLUMNS)
    .where(_p.upload == bindparam("of_upload"), _p.number > bindparam("after", type_=Int64))
    .order_by(_p.number)
    .limit(bindparam("count"))
)
_PART_PIECES = select(_p.pieces).where(_p.upload == bindparam("of_upload"), _p.number == bindparam("of_number"))
_DELETE_PART = delete(parts).where(_p.upload == bindparam("of_upload"), _p.number == bindparam("of_number"))
_DELETE_PARTS = delete(parts).where(_p.upload == bindparam("of_upload"))
_INSERT_PART = insert(parts).values({column.name: bindparam(column.name) for column in _p})
_LIST = (
    select(_u.key, _u.id, _u.begun_us, _u.about)
    .where(
        _u.bucket == bindparam("of_bucket"),
        _u.key < bindparam("end", type_=Bytes),
        or_(
            _u.key > bindparam("start", type_=Bytes),
            and_(_u.key == bindparam("start", type_=Bytes), _u.id > bindparam("below", type_=Text)),
        ),
    )
    .order_by(_u.key, _u.id)
    .limit(bindparam("count"))
)
_BEGUN_BEFORE = (
    select(_u.key, _u.id, _u.begun_us)
    .where(_u.bucket == bindparam("of_bucket"), _u.key >= bindparam("start", type_=Bytes))
    .where(_u.key < bindparam("end", type_=Bytes), _u.begun_us <= bindparam("before", type_=Int64))
    .order_by(_u.key, _u.id)
    .limit(bindparam("count"))
)


class PartAbout(msgspec.Struct, frozen=True, array_like=True):
    """`salt` is that of a sealed part."""

    checksum: str = ""
    salt: bytes = b""


class PartRow(msgspec.Struct, frozen=True):
    """`told` is the checksum that came with a part just now; it is not kept."""

    number: int
    size: int
    etag: str
    modified_us: int
    pieces: bytes
    about: PartAbout
    told: Checksum | None = None


class Wanted(msgspec.Struct, frozen=True):
    """A part as the client names it to complete an upload; `checksum` is base64 where the client gives one, of the
    upload's own algorithm unless `algorithm` says another."""

    number: int
    etag: str
    checksum: str = ""
    algorithm: str = ""


class UploadRow(msgspec.Struct, frozen=True):
    id: str
    begun_us: int
    about: About
    tags: dict[str, str] | None
    lock: Lock | None


encode_part = msgspec.msgpack.Encoder().encode
decode_part = msgspec.msgpack.Decoder(PartAbout).decode


def begin(
    connection: Connection,
    bucket_name: str,
    key: str,
    id: str,
    begun_us: int,
    about: About,
    tags: dict[str, str] | None,
    lock: Lock | None,
    uploads_max: int,
) -> None:
    """Raises `NoSuchBucket`, or `SlowDown` where too many are open."""
    bucket = lookups.find_bucket(connection, bucket_name)
    if connection.execute(_COUNT, {"of_bucket": bucket.id}).scalar() >= uploads_max:
        raise SlowDown(f"{uploads_max} uploads are open in this bucket")
    values: dict[str, Any] = {
        "bucket": bucket.id,
        "key": key.encode(),
        "id": id,
        "begun_us": begun_us,
        "about": encode_about(about),
        "tags": tags,
        "lock": lock,
    }
    connection.execute(_INSERT, values)


def find(connection: Connection, bucket_name: str, key: str, id: str) -> tuple[Bucket, UploadRow]:
    """Raises `NoSuchBucket` or `NoSuchUpload`."""
    bucket = lookups.find_bucket(connection, bucket_name)
    row = connection.execute(_FIND, _named(bucket, key, id)).first()
    if row is None:
        raise NoSuchUpload(upload=id)
    lock = None if row[3] is None else msgspec.convert(row[3], Lock)
    return bucket, UploadRow(id, row[0], decode_about(row[1]), row[2], lock)


def put_part(
    connection: Connection, bucket_name: str, key: str, id: str, stripes: Sequence[Stripe], row: PartRow
) -> None:
    """Stores a part in the place of an older one of its number."""
    find(connection, bucket_name, key, id)
    for stripe in stripes:
        references.insert_stripe(connection, stripe, stripe.size)
    _store_part(connection, id, row)


def copy_part(connection: Connection, bucket_name: str, key: str, id: str, row: PartRow) -> None:
    """Stores a part whose pieces are another object's as well."""
    find(connection, bucket_name, key, id)
    versions.refer(connection, row.pieces)
    _store_part(connection, id, row)


def list_parts(connection: Connection, id: str, after: int, count: int) -> list[PartRow]:
    rows = connection.execute(_PARTS, {"of_upload": id, "after": after, "count": count}).all()
    return [PartRow(row[0], row[1], row[2], row[3], row[4], decode_part(row[5])) for row in rows]


def complete(
    connection: Connection,
    numbers: Numbers,
    bucket_name: str,
    key: str,
    id: str,
    wanted: Sequence[Wanted],
    condition: WriteIf = ALWAYS,
    expected: Checksum | None = None,
    size: int | None = None,
    part_bytes_min: int = 0,
) -> tuple[Draft, Placed]:
    """Makes the object. Parts that are not `wanted` are dropped. Completing again what was completed gives it again.

    Raises `NoSuchUpload`, `InvalidPart`, `InvalidPartOrder`, `EntityTooSmall`, `BadDigest`, or what the condition raises.
    """
    try:
        bucket, upload = find(connection, bucket_name, key, id)
    except NoSuchUpload:
        return _completed_before(connection, bucket_name, key, id)
    stored = {row.number: row for row in list_parts(connection, id, 0, PARTS_MAX)}
    own = upload.about.checksum.algorithm if upload.about.checksum is not None else checksums.DEFAULT
    chosen = _choose(stored, wanted, part_bytes_min, own)
    total = sum(row.size for row in chosen)
    if size is not None and size != total:
        raise InvalidRequest("The provided 'x-amz-mp-object-size' header value does not match what was uploaded.")
    draft = Draft(
        key,
        total,
        checksums.composed_etag([row.etag for row in chosen]),
        b"".join([row.pieces for row in chosen]),
        _about(upload, chosen, expected),
        tags=upload.tags,
        lock=upload.lock,
        condition=condition,
        event="ObjectCreated:CompleteMultipartUpload",
    )
    placed = versions.put(connection, numbers, bucket, draft)
    for row in stored.keys() - {row.number for row in chosen}:
        references.release(connection, stored[row].pieces)
    connection.execute(_DELETE_PARTS, {"of_upload": id})
    connection.execute(_DELETE, _named(bucket, key, id))
    return draft, placed


def abort(connection: Connection, bucket_name: str, key: str, id: str) -> None:
    """Raises `NoSuchUpload`."""
    bucket, _ = find(connection, bucket_name, key, id)
    for row in list_parts(connection, id, 0, PARTS_MAX):
        references.release(connection, row.pieces)
    connection.execute(_DELETE_PARTS, {"of_upload": id})
    connection.execute(_DELETE, _named(bucket, key, id))


def list_uploads(
    connection: Connection, bucket_name: str, start: bytes, below: str, end: bytes, count: int
) -> list[tuple[bytes, str, int, About]]:
    """(key, id, begun_us, about) of the next `count` uploads after the upload `below` of the key `start`."""
    bucket = lookups.find_bucket(connection, bucket_name)
    parameters = {"of_bucket": bucket.id, "start": start, "below": below, "end": end, "count": count}
    return [(row[0], row[1], row[2], decode_about(row[3])) for row in connection.execute(_LIST, parameters).all()]


def begun_before(
    connection: Connection, bucket: int, start: bytes, end: bytes, before_us: int, count: int
) -> list[tuple[bytes, str]]:
    """(key, id) of uploads below a span of keys that were begun before a moment."""
    parameters = {"of_bucket": bucket, "start": start, "end": end, "before": before_us, "count": count}
    return [(row[0], row[1]) for row in connection.execute(_BEGUN_BEFORE, parameters).all()]


def _choose(stored: dict[int, PartRow], wanted: Sequence[Wanted], part_bytes_min: int, own: str) -> list[PartRow]:
    if not wanted:
        raise InvalidRequest("You must specify at least one part")
    chosen: list[PartRow] = []
    for one in wanted:
        if chosen and one.number <= chosen[-1].number:
            raise InvalidPartOrder()
        row = stored.get(one.number)
        if row is None or row.etag != one.etag.strip('"'):
            raise InvalidPart(part=one.number, etag=one.etag)
        # Of an upload that was begun without a checksum clients name the one that they sent with the part.
        ours = one.algorithm in ("", own) or own != checksums.DEFAULT
        if one.checksum and ours and one.checksum != row.about.checksum:
            raise InvalidPart(part=one.number, etag=one.etag)
        chosen.append(row)
    for row in chosen[:-1]:
        if row.size < part_bytes_min:
            raise EntityTooSmall(part=row.number, etag=row.etag, size=row.size, min=part_bytes_min)
    return chosen


def _about(upload: UploadRow, chosen: Sequence[PartRow], expected: Checksum | None) -> About:
    about, wish = upload.about, upload.about.checksum
    checksum = None
    if wish is not None:
        checksum = checksums.composed(wish.algorithm, wish.kind, [(row.about.checksum, row.size) for row in chosen])
    if expected is not None and expected.value:
        if checksum is None or checksum.algorithm != expected.algorithm:
            raise InvalidRequest("The checksum type of this upload is another one.")
        if checksum.value.partition("-")[0] != expected.value.partition("-")[0]:
            raise BadDigest(f"The {expected.algorithm} you specified did not match the calculated checksum.")
    sealed = about.sealed
    if sealed is not None:
        sealed = msgspec.structs.replace(sealed, units=tuple((row.about.salt, row.size) for row in chosen))
    described = tuple(Part(row.number, row.size, row.about.checksum) for row in chosen)
    return msgspec.structs.replace(about, checksum=checksum, parts=described, sealed=sealed, upload=upload.id)


def _completed_before(connection: Connection, bucket_name: str, key: str, id: str) -> tuple[Draft, Placed]:
    """The answer to a client that asks again because it never saw the first one."""
    bucket = lookups.find_bucket(connection, bucket_name)
    row = lookups.newest_there(connection, bucket.id, key)
    if row is None or row.marker or decode_about(row.about).upload != id:
        raise NoSuchUpload(upload=id)
    lock = None if row.lock is None else msgspec.convert(row.lock, Lock)
    draft = Draft(key, row.size, row.etag, row.pieces, decode_about(row.about), tags=row.tags, lock=lock)
    return draft, Placed(lookups.name_of(row), row.seq, lock, bucket.versioning != 0)


def _store_part(connection: Connection, id: str, row: PartRow) -> None:
    if not 1 <= row.number <= PARTS_MAX:
        raise InvalidArgument(f"Part number must be an integer between 1 and {PARTS_MAX}, inclusive")
    where = {"of_upload": id, "of_number": row.number}
    before = connection.execute(_PART_PIECES, where).scalar()
    if before is not None:
        references.release(connection, before)
        connection.execute(_DELETE_PART, where)
    values: dict[str, Any] = {
        "upload": id,
        "number": row.number,
        "size": row.size,
        "etag": row.etag,
        "modified_us": row.modified_us,
        "pieces": row.pieces,
        "about": encode_part(row.about),
    }
    connection.execute(_INSERT_PART, values)


def _named(bucket: Bucket, key: str, id: str) -> dict[str, Any]:
    return {"of_bucket": bucket.id, "of_key": key.encode(), "of_upload": id}
