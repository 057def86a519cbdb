"""Writes of whole objects: from the body of a request, or as a copy of another object with what the copy has of its own."""

from urllib.parse import unquote

from mainspring.core.http.request import WHOLE_BODY
from mainspring.storage.objects.checksums import ALGORITHMS
from mainspring.storage.objects.conditions import ReadIf
from mainspring.storage.objects.errors import NoSuchKey
from mainspring.storage.objects.model import Checksum, Object
from mainspring.storage.objects.moves import Changes, Source
from mainspring.storage.objects.s3 import access, encryption, headers
from mainspring.storage.objects.s3.answers import Answer, Header, xml
from mainspring.storage.objects.s3.buckets import BucketView
from mainspring.storage.objects.s3.call import Call
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.object_handlers import acl_of
from mainspring.storage.objects.s3.routing import operation
from mainspring.storage.objects.s3.wishes import viewed, wish_of
from mainspring.storage.objects.s3.xml import document, element, timestamp

COPIED_BYTES_MAX = 5 << 30


@operation("PUT", "object", "PutObject", "s3:PutObject")
async def put(call: Call) -> Answer:
    if b"x-amz-copy-source" in call.headers:
        return await copy(call)
    body = call.body
    if body.size_bytes is None:
        raise S3Error("MissingContentLength")
    wish, view = wish_of(call, body.wish), viewed(call)
    content = await body.content(call.scope.get(WHOLE_BODY))
    made = await call.objects.put(call.bucket, call.key, content, size=body.size_bytes, wish=wish, known=view.bucket)
    return Answer(200, of_made(made, view))


def of_made(made: Object, view: BucketView) -> list[Header]:
    """What is said of a version that was made just now."""
    answer: list[Header] = [(b"etag", b'"%s"' % made.etag.encode())]
    checksum = made.checksum
    if checksum is not None:
        answer.append((f"x-amz-checksum-{checksum.algorithm.lower()}".encode(), checksum.value.encode()))
        answer.append((b"x-amz-checksum-type", checksum.kind.encode()))
    if view.bucket.versioning:
        answer.append((b"x-amz-version-id", made.version.encode()))
    if made.sealed is not None:
        answer += encryption.of_sealed(made.sealed)
    return answer


def source_of(call: Call) -> Source:
    """What a copy is made from. Raises `InvalidArgument`."""
    text = call.header(b"x-amz-copy-source") or ""
    path, _, query = text.partition("?")
    bucket, slash, key = unquote(path.removeprefix("/")).partition("/")
    if not slash or not bucket or not key:
        raise S3Error("InvalidArgument", "Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
    version = query.removeprefix("versionId=") if query.startswith("versionId=") else None
    if query and not version:
        raise S3Error("InvalidArgument", "Version id cannot be the empty string", ArgumentName="x-amz-copy-source")
    return Source(bucket, key, version, headers.copy_if(call) or ReadIf())


async def may_read(call: Call, source: Source) -> Object:
    """The source's row, checked that the caller may read it. Raises `AccessDenied` and what the engine raises."""
    view = await call.door.buckets.view(source.bucket)
    action = "s3:GetObject" if source.version is None else "s3:GetObjectVersion"
    depends = not view.enforced or view.asks_tags
    if not depends:
        access.check(call, action, source.key, view=view)
    try:
        found = await call.objects.head(source.bucket, source.key, source.version)
    except NoSuchKey:
        raise S3Error("NoSuchKey", Key=source.key) from None
    if depends:
        call.existing_tags = found.tags
        access.check(call, action, source.key, acl_of(found), view=view)
    return found


async def copy(call: Call) -> Answer:
    """`CopyObject`: a PUT that names a source."""
    source = source_of(call)
    origin = await may_read(call, source)
    directive = (call.header(b"x-amz-metadata-directive") or "COPY").upper()
    tagging = (call.header(b"x-amz-tagging-directive") or "COPY").upper()
    if directive not in ("COPY", "REPLACE") or tagging not in ("COPY", "REPLACE"):
        raise S3Error("InvalidArgument", "Unknown metadata directive.", ArgumentName="x-amz-metadata-directive")
    algorithm = (call.header(b"x-amz-checksum-algorithm") or "").upper()
    if algorithm and algorithm not in ALGORITHMS:
        raise S3Error("InvalidRequest", "Checksum algorithm provided is unsupported.")
    if origin.size > COPIED_BYTES_MAX:
        raise S3Error(
            "InvalidRequest",
            f"The specified copy source is larger than the maximum allowable size for a copy source: {COPIED_BYTES_MAX}",
        )
    wish = wish_of(call, None)
    replaces = directive == "REPLACE"
    changes = Changes(
        headers=wish.headers if replaces else None,
        metadata=wish.metadata if replaces else None,
        tags=(wish.tags or {}) if tagging == "REPLACE" else None,
        lock=wish.lock,
        storage_class=wish.storage_class if b"x-amz-storage-class" in call.headers else None,
        owner=wish.owner,
        acl=wish.acl,
    )
    itself = (source.bucket, source.key) == (call.bucket, call.key) and source.version is None
    changed = replaces or wish.encryption is not None or changes.storage_class is not None or tagging == "REPLACE"
    if itself and not changed and "x-amz-website-redirect-location" not in (wish.headers or {}):
        raise S3Error(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's "
            "metadata, storage class, website redirect location or encryption attributes.",
        )
    made, version = await call.objects.copy(
        source,
        call.bucket,
        call.key,
        condition=wish.condition,
        changes=changes,
        checksum=Checksum(algorithm) if algorithm else None,
        encryption=wish.encryption,
        source_customer_key=encryption.source_key(call),
    )
    shown: list[Header] = encryption.of_sealed(made.sealed)
    if viewed(call).bucket.versioning:
        shown.append((b"x-amz-version-id", made.version.encode()))
    if origin.versioned:
        shown.append((b"x-amz-copy-source-version-id", version.encode()))
    inner = element("LastModified", timestamp(made.modified_us)) + f"<ETag>&quot;{made.etag}&quot;</ETag>"
    if made.checksum is not None:
        inner += element(f"Checksum{made.checksum.algorithm}", made.checksum.value)
        inner += element("ChecksumType", made.checksum.kind)
    return xml(document("CopyObjectResult", inner), headers=shown)
