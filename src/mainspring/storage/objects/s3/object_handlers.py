"""Objects that are there: get, head, delete one and many, and what is known of one (`GetObjectAttributes`)."""

import asyncio
from typing import Any

from mainspring.core.problems import Problem
from mainspring.storage.objects.conditions import WriteIf
from mainspring.storage.objects.errors import InvalidRange, NoSuchKey
from mainspring.storage.objects.model import Object
from mainspring.storage.objects.reading import Reader
from mainspring.storage.objects.s3 import access, encryption, headers
from mainspring.storage.objects.s3.acl import Acl, decode
from mainspring.storage.objects.s3.answers import Answer, Header, xml
from mainspring.storage.objects.s3.call import Call
from mainspring.storage.objects.s3.errors import S3Error, told
from mainspring.storage.objects.s3.routing import operation
from mainspring.storage.objects.s3.wishes import viewed
from mainspring.storage.objects.s3.xml import Node, document, element, elements

KEYS_MAX = 1_000
PARTS_PAGE_MAX = 1_000


@operation("GET", "object", "GetObject")
async def get(call: Call) -> Answer:
    reader = await opened(call)
    return read_answer(call, reader)


async def opened(call: Call) -> Reader:
    """The object that is asked for, checked that it may be read. Raises what the engine raises, and `AccessDenied`."""
    view = viewed(call)
    query = call.query
    version = call.version if query else None
    action = "s3:GetObject" if version is None else "s3:GetObjectVersion"
    depends = not view.enforced or view.asks_tags
    if not depends:
        access.check(call, action, call.key)
    if query and not call.signed_by and any(name in query for name in headers.OVERRIDES):
        raise S3Error("InvalidRequest", "Request specific response headers cannot be used for anonymous GET requests.")
    given = call.headers
    part = call.number("partNumber", 0, 10_001) if "partNumber" in query else None
    wanted = headers.byte_range(call.header(b"range")) if b"range" in given else None
    if part is not None and wanted is not None:
        raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
    if wanted is not None and b"if-range" in given and not await _unchanged(call, version):
        wanted = None
    call.ranged = wanted is not None or part is not None
    try:
        reader = await call.objects.get(
            call.bucket,
            call.key,
            wanted,
            version,
            part=part,
            condition=headers.read_if(call),
            as_of_us=as_of(call),
            customer_key=encryption.opening_key(call),
        )
    except NoSuchKey as missing:
        raise _hidden(call, missing) from None
    except InvalidRange as wrong:
        raise out_of_range(call, wrong) from None
    if depends:
        call.existing_tags = reader.object.tags
        access.check(call, action, call.key, acl_of(reader.object))
    return reader


def read_answer(call: Call, reader: Reader) -> Answer:
    """The answer of a GET whose object has been opened."""
    object = reader.object
    status = 200
    # The checksum is that of the whole: a client would hold it against what it got.
    summed = reader.length == object.size and call.headers.get(b"x-amz-checksum-mode", b"").upper() == b"ENABLED"
    shown = headers.of_object(object, checksums=summed)
    if object.sealed is not None:
        shown += encryption.of_sealed(object.sealed)
    if reader.length != object.size or "partNumber" in call.query or b"range" in call.headers:
        if call.ranged:
            status = 206
            shown.append((b"content-range", b"bytes %d-%d/%d" % (reader.start, reader.stop - 1, object.size)))
        if "partNumber" in call.query and object.parts:
            shown.append((b"x-amz-mp-parts-count", b"%d" % len(object.parts)))
    if call.query:
        shown = _overridden(call, shown)
    cached = reader.cached()
    return Answer(status, shown, cached if cached is not None else aiter(reader), b"", reader.length)


def _overridden(call: Call, shown: list[Header]) -> list[Header]:
    replaced = {
        kept.encode(): headers.encoded(call.query[name])
        for name, kept in headers.OVERRIDES.items()
        if name in call.query
    }
    return [*((name, value) for name, value in shown if name not in replaced), *replaced.items()] if replaced else shown


async def _unchanged(call: Call, version: str | None) -> bool:
    """Whether `If-Range` names the object as it is now."""
    found = await call.objects.head(call.bucket, call.key, version)
    condition = (call.header(b"if-range") or "").strip()
    if condition.startswith('"'):
        return condition == f'"{found.etag}"'
    return headers.seconds(condition) == found.modified_us // 1_000_000


def _hidden(call: Call, missing: NoSuchKey) -> Problem:
    """Whoever may not list a bucket does not learn which keys are missing from it."""
    if not access.allowed(call, "s3:ListBucket", ""):
        return S3Error("AccessDenied")
    marker = missing.more.get("marker")
    more = (
        (("x-amz-delete-marker", "true"), ("x-amz-version-id", str(missing.more.get("version", "null"))))
        if marker
        else ()
    )
    return S3Error("NoSuchKey", headers=more, Key=call.key)


def out_of_range(call: Call, wrong: InvalidRange) -> S3Error:
    size = wrong.more.get("actual_size", 0)
    return S3Error(
        "InvalidRange",
        headers=(("content-range", f"bytes */{size}"),),
        RangeRequested=(call.header(b"range") or "")[:200],
        ActualObjectSize=size,
    )


@operation("HEAD", "object", "HeadObject")
async def head(call: Call) -> Answer:
    if "partNumber" in call.query or b"range" in call.headers:
        answer = read_answer(call, await opened(call))
        return Answer(answer.status, answer.headers, b"", b"", answer.size_bytes)
    view = viewed(call)
    version = call.version if call.query else None
    action = "s3:GetObject" if version is None else "s3:GetObjectVersion"
    depends = not view.enforced or view.asks_tags
    if not depends:
        access.check(call, action, call.key)
    try:
        found = await call.objects.head(
            call.bucket, call.key, version, condition=headers.read_if(call), as_of_us=as_of(call)
        )
    except NoSuchKey as missing:
        raise _hidden(call, missing) from None
    if depends:
        call.existing_tags = found.tags
        access.check(call, action, call.key, acl_of(found))
    if found.sealed is not None:
        encryption.must_open(call, found)
    shown = headers.of_object(found, checksums=call.headers.get(b"x-amz-checksum-mode", b"").upper() == b"ENABLED")
    if found.sealed is not None:
        shown += encryption.of_sealed(found.sealed)
    return Answer(200, _overridden(call, shown) if call.query else shown, b"", b"", found.size)


def as_of(call: Call) -> int | None:
    """The moment that `x-mainspring-as-of` asks for, in microseconds. Raises `InvalidArgument`."""
    text = call.header(b"x-mainspring-as-of")
    if text is None:
        return None
    if not viewed(call).bucket.versioning:
        raise S3Error("InvalidArgument", "x-mainspring-as-of needs a bucket with versioning")
    if text.isdigit() and len(text) <= 18:
        return int(text)
    at_s = headers.seconds(text)
    if at_s is None:
        raise S3Error(
            "InvalidArgument", "x-mainspring-as-of is a date or microseconds", ArgumentName="x-mainspring-as-of"
        )
    return at_s * 1_000_000


def acl_of(object: Object) -> Acl:
    """An object's own list; without one it is its owner's."""
    from mainspring.storage.objects.s3.acl import private

    return decode(object.acl) if object.acl else private(object.owner)


@operation("DELETE", "object", "DeleteObject")
async def delete(call: Call) -> Answer:
    version = call.version
    access.check(call, "s3:DeleteObject" if version is None else "s3:DeleteObjectVersion", call.key)
    bypass = call.flag(b"x-amz-bypass-governance-retention")
    if bypass:
        access.check(call, "s3:BypassGovernanceRetention", call.key)
    deleted = await call.objects.delete(
        call.bucket, call.key, version, condition=headers.delete_if(call), bypass_governance=bypass
    )
    shown: list[Header] = []
    if deleted.version is not None and viewed(call).bucket.versioning:
        shown.append((b"x-amz-version-id", deleted.version.encode()))
    if deleted.marker:
        shown.append((b"x-amz-delete-marker", b"true"))
    return Answer(204, shown)


@operation("POST", "bucket", "DeleteObjects", field="delete")
async def delete_many(call: Call) -> Answer:
    root = await call.document("Delete")
    wanted = root.all("Object")
    if not 0 < len(wanted) <= KEYS_MAX:
        raise S3Error("MalformedXML")
    quiet = root.get("Quiet").lower() == "true"
    bypass = call.flag(b"x-amz-bypass-governance-retention")
    # All at once, so that they share a group commit.
    told_of = await asyncio.gather(*(_delete_one(call, one, bypass, quiet) for one in wanted))
    return xml(document("DeleteResult", "".join(told_of)))


async def _delete_one(call: Call, wanted: Node, bypass: bool, quiet: bool) -> str:
    key, version = wanted.get("Key"), wanted.get("VersionId") or None
    named: list[tuple[str, Any]] = [("Key", key), ("VersionId", version)]
    try:
        access.check(call, "s3:DeleteObject" if version is None else "s3:DeleteObjectVersion", key)
        if bypass:
            access.check(call, "s3:BypassGovernanceRetention", key)
        size = wanted.get("Size")
        condition = WriteIf(
            match=wanted.get("ETag") or None,
            size=int(size) if size.isdigit() and len(size) < 19 else None,
            modified_s=headers.seconds(wanted.get("LastModifiedTime")),
        )
        deleted = await call.objects.delete(call.bucket, key, version, condition=condition, bypass_governance=bypass)
    except Problem as problem:
        _, code, message = told(problem)
        return f"<Error>{elements([*named, ('Code', code), ('Message', message)])}</Error>"
    if quiet:
        return ""
    if deleted.marker and version is None:
        named += [("DeleteMarker", True), ("DeleteMarkerVersionId", deleted.version)]
    elif deleted.marker:
        named += [("DeleteMarker", True), ("DeleteMarkerVersionId", version)]
    return f"<Deleted>{elements(named)}</Deleted>"


@operation("GET", "object", "GetObjectAttributes", field="attributes")
async def attributes(call: Call) -> Answer:
    version = call.version
    names = {one.strip() for one in (call.header(b"x-amz-object-attributes") or "").split(",") if one.strip()}
    if not names or not names <= {"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"}:
        raise S3Error("InvalidArgument", "Invalid attribute name specified.", ArgumentName="x-amz-object-attributes")
    found = await looked_up(call, "s3:GetObjectAttributes", version)
    if found.sealed is not None:
        encryption.must_open(call, found)
    inner = ""
    if "ETag" in names:
        inner += element("ETag", found.etag)
    if "Checksum" in names and found.checksum is not None:
        checksum = found.checksum
        value = checksum.value.partition("-")[0]
        told_of = element(f"Checksum{checksum.algorithm}", value) + element("ChecksumType", checksum.kind)
        inner += f"<Checksum>{told_of}</Checksum>"
    if "ObjectParts" in names and found.parts:
        inner += _parts(call, found)
    if "StorageClass" in names:
        inner += element("StorageClass", found.storage_class)
    if "ObjectSize" in names:
        inner += element("ObjectSize", found.size)
    shown: list[Header] = [(b"last-modified", headers.http_date(found.modified_us // 1_000_000))]
    if found.versioned:
        shown.append((b"x-amz-version-id", found.version.encode()))
    return xml(document("GetObjectAttributesResponse", inner), headers=shown)


async def looked_up(call: Call, action: str, version: str | None) -> Object:
    """An object's row, checked that `action` is allowed on it."""
    view = viewed(call)
    depends = not view.enforced or view.asks_tags
    if not depends:
        access.check(call, action, call.key)
    try:
        found = await call.objects.head(call.bucket, call.key, version)
    except NoSuchKey as missing:
        raise _hidden(call, missing) from None
    if depends:
        call.existing_tags = found.tags
        access.check(call, action, call.key, acl_of(found))
    return found


def _parts(call: Call, found: Object) -> str:
    after, most = call.headers.get(b"x-amz-part-number-marker", b"0"), call.headers.get(b"x-amz-max-parts", b"1000")
    if not after.isdigit() or not most.isdigit():
        raise S3Error("InvalidArgument", ArgumentName="x-amz-max-parts")
    marker, count = int(after[:9]), min(int(most[:9]), PARTS_PAGE_MAX)
    listed: list[Any] = [part for part in found.parts if part.number > marker]
    shown = listed[:count]
    inner = elements(
        [
            ("PartsCount", len(found.parts)),
            ("PartNumberMarker", marker),
            ("NextPartNumberMarker", shown[-1].number if shown else 0),
            ("MaxParts", count),
            ("IsTruncated", len(listed) > len(shown)),
        ]
    )
    algorithm = found.checksum.algorithm if found.checksum is not None else ""
    # S3 lists parts only where they have checksums of their own.
    if algorithm and found.checksum is not None and found.checksum.kind == "COMPOSITE":
        for part in shown:
            value = element(f"Checksum{algorithm}", part.checksum) if part.checksum else ""
            inner += f"<Part>{value}{element('PartNumber', part.number)}{element('Size', part.size)}</Part>"
    return f"<ObjectParts>{inner}</ObjectParts>"
