"""Uploads in parts: begin, parts by body or by copy, complete, abort, and lists of what is there."""

from urllib.parse import quote

from mainspring.storage.objects.conditions import WriteIf
from mainspring.storage.objects.model import Checksum
from mainspring.storage.objects.multipart import PartRow, Wanted
from mainspring.storage.objects.s3 import encryption, headers, writes
from mainspring.storage.objects.s3.answers import Answer, Header, xml
from mainspring.storage.objects.s3.bodies import HEADERS
from mainspring.storage.objects.s3.call import Call
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.routing import operation
from mainspring.storage.objects.s3.wishes import viewed, wish_of
from mainspring.storage.objects.s3.writes import of_made
from mainspring.storage.objects.s3.xml import Node, document, element, elements, escaped, timestamp, url_encoded

PARTS_MAX = 10_000
PAGE_MAX = 1_000


@operation("POST", "object", "CreateMultipartUpload", "s3:PutObject", field="uploads")
async def begin(call: Call) -> Answer:
    algorithm = (call.header(b"x-amz-checksum-algorithm") or "").upper()
    kind = (call.header(b"x-amz-checksum-type") or "").upper()
    if kind not in ("", "COMPOSITE", "FULL_OBJECT"):
        raise S3Error("InvalidRequest", "Value for x-amz-checksum-type header is invalid.")
    if (algorithm in ("SHA1", "SHA256") and kind == "FULL_OBJECT") or (
        algorithm == "CRC64NVME" and kind == "COMPOSITE"
    ):
        raise S3Error(
            "InvalidRequest", f"The {kind} checksum type cannot be used with the {algorithm} checksum algorithm."
        )
    wish = wish_of(call, None)
    wish.condition, wish.md5 = WriteIf(), None
    if algorithm:
        wish.checksum = Checksum(algorithm, kind=kind or ("FULL_OBJECT" if algorithm == "CRC64NVME" else "COMPOSITE"))
    visitors = call.door.visitors
    if call.identity.anonymous:
        visitors.must_have_room(call.bucket, call.client)
    id = await call.objects.uploads.begin(call.bucket, call.key, wish)
    if call.identity.anonymous:
        visitors.begun(call.bucket, call.client, id)
    shown: list[Header] = [*encryption.of_wish(wish.encryption)]
    if wish.checksum is not None:
        shown.append((b"x-amz-checksum-algorithm", wish.checksum.algorithm.encode()))
        shown.append((b"x-amz-checksum-type", wish.checksum.kind.encode()))
    inner = element("Bucket", call.bucket) + element("Key", call.key) + element("UploadId", id)
    return xml(document("InitiateMultipartUploadResult", inner), headers=shown)


@operation("PUT", "object", "UploadPart", "s3:PutObject", field="uploadId")
async def part(call: Call) -> Answer:
    number, id = _number(call), call.query["uploadId"]
    if b"x-amz-copy-source" in call.headers:
        return await _copied(call, id, number)
    body = call.body
    if body.size_bytes is None:
        raise S3Error("MissingContentLength")
    row = await call.objects.uploads.put_part(
        call.bucket,
        call.key,
        id,
        number,
        await body.content(),
        size=body.size_bytes,
        checksum=body.wish,
        md5=call.header(b"content-md5"),
        customer_key=encryption.opening_key(call),
    )
    shown: list[Header] = [(b"etag", b'"%s"' % row.etag.encode())]
    if row.told is not None:
        shown.append((f"x-amz-checksum-{row.told.algorithm.lower()}".encode(), row.told.value.encode()))
    if encryption.MODE in call.headers or encryption.opening_key(call) is not None:
        shown += encryption.of_wish(encryption.asked(call))
    return Answer(200, shown)


def _number(call: Call) -> int:
    text = call.query.get("partNumber", "")
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= PARTS_MAX:
        raise S3Error(
            "InvalidArgument",
            f"Part number must be an integer between 1 and {PARTS_MAX}, inclusive",
            ArgumentName="partNumber",
            ArgumentValue=text[:60],
        )
    return int(text)


async def _copied(call: Call, id: str, number: int) -> Answer:
    source = writes.source_of(call)
    await writes.may_read(call, source)
    wanted = call.header(b"x-amz-copy-source-range")
    span = headers.byte_range(wanted)
    if wanted is not None and (span is None or span[0] is None or span[1] is None):
        raise S3Error(
            "InvalidArgument",
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the "
            "zero-based offsets of the first and last bytes to copy",
            ArgumentName="x-amz-copy-source-range",
        )
    reader = await call.objects.get(
        source.bucket, source.key, span, source.version, customer_key=encryption.source_key(call)
    )
    source.condition.check(reader.object.etag, reader.object.modified_us, prefix="x-amz-copy-source-")
    if span is not None and span[1] is not None and span[1] >= reader.object.size:
        raise S3Error("InvalidRange", f"Range specified is not valid for source object of size: {reader.object.size}")
    row = await call.objects.uploads.copy_part(
        call.bucket, call.key, id, number, reader, customer_key=encryption.customer_key(call)
    )
    shown: list[Header] = []
    if reader.object.versioned:
        shown.append((b"x-amz-copy-source-version-id", reader.object.version.encode()))
    inner = element("LastModified", timestamp(row.modified_us)) + f"<ETag>&quot;{row.etag}&quot;</ETag>"
    return xml(document("CopyPartResult", inner), headers=shown)


@operation("POST", "object", "CompleteMultipartUpload", "s3:PutObject", field="uploadId")
async def complete(call: Call) -> Answer:
    id = call.query["uploadId"]
    root = await call.document("CompleteMultipartUpload")
    nodes = root.all("Part")
    if not nodes or len(nodes) > PARTS_MAX:
        raise S3Error("MalformedXML", "You must specify at least one part")
    size = call.header(b"x-amz-mp-object-size")
    if size is not None and (not size.isdigit() or len(size) > 18):
        raise S3Error("InvalidRequest", "Value for x-amz-mp-object-size header is invalid.")
    given = next(((name, value) for header, name in HEADERS.items() if (value := call.header(header.encode()))), None)
    kind = call.header(b"x-amz-checksum-type") or "FULL_OBJECT"
    made = await call.objects.uploads.complete(
        call.bucket,
        call.key,
        id,
        [wanted_part(node) for node in nodes],
        condition=headers.write_if(call),
        checksum=Checksum(given[0], given[1], kind) if given is not None else None,
        size=int(size) if size is not None else None,
    )
    call.door.visitors.ended(id)
    host = call.header(b"host") or ""
    path = quote(call.key, safe="/~") if call.address.virtual else f"{call.bucket}/{quote(call.key, safe='/~')}"
    inner = element("Location", f"{'https' if call.secure else 'http'}://{host}/{path}")
    inner += element("Bucket", call.bucket) + element("Key", call.key) + f"<ETag>&quot;{made.etag}&quot;</ETag>"
    if made.checksum is not None:
        inner += element(f"Checksum{made.checksum.algorithm}", made.checksum.value)
        inner += element("ChecksumType", made.checksum.kind)
    shown = [one for one in of_made(made, viewed(call)) if not one[0].startswith((b"etag", b"x-amz-checksum"))]
    return xml(document("CompleteMultipartUploadResult", inner), headers=shown)


def wanted_part(node: Node) -> Wanted:
    """A `Part` of a document that completes an upload. Raises `MalformedXML`."""
    number = node.get("PartNumber")
    if not number.isascii() or not number.isdigit() or len(number) > 9 or node.one("ETag") is None:
        raise S3Error("MalformedXML")
    sums = [child for child in node.children if child.name.startswith("Checksum")]
    summed = (sums[0].text, sums[0].name.removeprefix("Checksum")) if sums else ("", "")
    return Wanted(int(number), node.get("ETag").strip().strip('"'), *summed)


@operation("DELETE", "object", "AbortMultipartUpload", "s3:AbortMultipartUpload", field="uploadId")
async def abort(call: Call) -> Answer:
    await call.objects.uploads.abort(call.bucket, call.key, call.query["uploadId"])
    call.door.visitors.ended(call.query["uploadId"])
    return Answer(204)


@operation("GET", "object", "ListParts", "s3:ListMultipartUploadParts", field="uploadId")
async def list_parts(call: Call) -> Answer:
    id = call.query["uploadId"]
    after, count = call.number("part-number-marker", 0, 2**31 - 1), call.number("max-parts", PAGE_MAX, PAGE_MAX)
    page = await call.objects.uploads.parts(call.bucket, call.key, id, after=after, count=count)
    upload = page.upload
    names = call.door.identities.names
    who = element("ID", upload.owner) + element("DisplayName", names.get(upload.owner, ""))
    inner = element("Bucket", call.bucket) + element("Key", call.key) + element("UploadId", id)
    inner += f"<Initiator>{who}</Initiator><Owner>{who}</Owner>" + element("StorageClass", upload.storage_class)
    if upload.checksum is not None:
        inner += element("ChecksumAlgorithm", upload.checksum.algorithm) + element("ChecksumType", upload.checksum.kind)
    inner += elements(
        [
            ("PartNumberMarker", after),
            ("NextPartNumberMarker", page.parts[-1].number if page.parts else 0),
            ("MaxParts", count),
            ("IsTruncated", page.next is not None),
        ]
    )
    algorithm = upload.checksum.algorithm if upload.checksum is not None else ""
    return xml(document("ListPartsResult", inner + "".join(_part(row, algorithm) for row in page.parts)))


def _part(row: PartRow, algorithm: str) -> str:
    value = element(f"Checksum{algorithm}", row.about.checksum) if algorithm and row.about.checksum else ""
    return (
        f"<Part>{element('PartNumber', row.number)}{element('LastModified', timestamp(row.modified_us))}"
        f"<ETag>&quot;{row.etag}&quot;</ETag>{element('Size', row.size)}{value}</Part>"
    )


@operation("GET", "bucket", "ListMultipartUploads", "s3:ListBucketMultipartUploads", field="uploads")
async def list_uploads(call: Call) -> Answer:
    query = call.query
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    key_marker, id_marker = query.get("key-marker", ""), query.get("upload-id-marker", "")
    count = call.number("max-uploads", PAGE_MAX, PAGE_MAX)
    text = url_encoded if query.get("encoding-type") == "url" else escaped
    page = await call.objects.uploads.list(call.bucket, prefix, delimiter, key_marker, id_marker, count=count)
    names = call.door.identities.names
    inner = (
        element("Bucket", call.bucket)
        + f"<KeyMarker>{text(key_marker)}</KeyMarker>"
        + element("UploadIdMarker", id_marker)
    )
    if page.next is not None:
        inner += f"<NextKeyMarker>{text(page.next[0])}</NextKeyMarker>" + element("NextUploadIdMarker", page.next[1])
    inner += f"<Prefix>{text(prefix)}</Prefix>" + (f"<Delimiter>{text(delimiter)}</Delimiter>" if delimiter else "")
    inner += elements(
        [("EncodingType", query.get("encoding-type")), ("MaxUploads", count), ("IsTruncated", page.next is not None)]
    )
    for one in page.uploads:
        who = element("ID", one.owner) + element("DisplayName", names.get(one.owner, ""))
        sums = ""
        if one.checksum is not None:
            sums = element("ChecksumAlgorithm", one.checksum.algorithm) + element("ChecksumType", one.checksum.kind)
        inner += (
            f"<Upload><Key>{text(one.key)}</Key>{element('UploadId', one.id)}<Initiator>{who}</Initiator>"
            f"<Owner>{who}</Owner>{element('StorageClass', one.storage_class)}"
            f"{element('Initiated', timestamp(one.begun_us))}{sums}</Upload>"
        )
    inner += "".join(f"<CommonPrefixes><Prefix>{text(one)}</Prefix></CommonPrefixes>" for one in page.prefixes)
    return xml(document("ListMultipartUploadsResult", inner))
