"""Listings: objects in both versions of the API, versions with delete markers, and uploads that are open."""

from collections.abc import Mapping

from mainspring.storage.objects.listing import Listed, Page
from mainspring.storage.objects.s3.answers import Answer, xml
from mainspring.storage.objects.s3.call import Call, number
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.object_handlers import as_of
from mainspring.storage.objects.s3.routing import operation
from mainspring.storage.objects.s3.xml import (
    document,
    element,
    escaped,
    is_plain,
    is_plain_in_urls,
    seconds,
    timestamp,
    url_encoded,
)

KEYS_MAX = 1_000


class Wanted:
    """The fields that all listings share. Raises `InvalidArgument`."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self.prefix = query.get("prefix", "")
        self.delimiter = query.get("delimiter", "")
        self.count = number(query, "max-keys", KEYS_MAX, KEYS_MAX)
        self.encoding = query.get("encoding-type", "")
        if self.encoding not in ("", "url"):
            raise S3Error(
                "InvalidArgument", "Invalid Encoding Method specified in Request", ArgumentName="encoding-type"
            )
        self.text = url_encoded if self.encoding else escaped

    def texts(self, keys: list[str]) -> list[str]:
        """The keys as they are written. Most pages have no letter that is special: that is seen at one look."""
        plain = is_plain_in_urls if self.encoding else is_plain
        return keys if plain("/".join(keys)) else [self.text(key) for key in keys]

    def head(self, bucket: str) -> str:
        """What every listing says first."""
        parts = [element("Name", bucket), f"<Prefix>{self.text(self.prefix)}</Prefix>"]
        if self.delimiter:
            parts.append(f"<Delimiter>{self.text(self.delimiter)}</Delimiter>")
        if self.encoding:
            parts.append(element("EncodingType", self.encoding))
        return "".join(parts)

    def prefixes(self, page: Page) -> str:
        text = self.text
        return "".join(
            [f"<CommonPrefixes><Prefix>{text(prefix)}</Prefix></CommonPrefixes>" for prefix in page.prefixes]
        )


def _contents(wanted: Wanted, entries: list[Listed], names: Mapping[str, str] | None) -> str:
    """The lines of a page, with their owners where the names of owners are given. What most of them share is written once,
    and each is one piece of text."""
    sums: dict[tuple[str, str] | None, str] = {None: ""}
    told = {} if names is None else {one.owner: _owner(one.owner, names) for one in entries}
    lines, kind, summed, at_s, second = [], None, "", -1, ""
    for one, key in zip(entries, wanted.texts([one.key for one in entries]), strict=True):
        if (checksum := one.checksum) is None:
            summed = ""
        else:
            kind = checksum.algorithm, checksum.kind
            known = sums.get(kind)
            if known is None:
                known = sums[kind] = element("ChecksumAlgorithm", kind[0]) + element("ChecksumType", kind[1])
            summed = known
        modified_ms = one.modified_us // 1_000
        if modified_ms // 1_000 != at_s:
            at_s = modified_ms // 1_000
            second = seconds(at_s)
        lines.append(
            f"<Contents><Key>{key}</Key><LastModified>{second}.{modified_ms % 1_000:03d}Z</LastModified>"
            f"<ETag>&quot;{one.etag}&quot;</ETag>{summed}<Size>{one.size}</Size>{told[one.owner] if told else ''}"
            f"<StorageClass>{one.storage_class}</StorageClass></Contents>"
        )
    return "".join(lines)


def _owner(id: str, names: Mapping[str, str]) -> str:
    return f"<Owner>{element('ID', id)}{element('DisplayName', names.get(id, ''))}</Owner>"


@operation("GET", "bucket", "ListObjectsV2", "s3:ListBucket", field="list-type")
async def list_v2(call: Call) -> Answer:
    if call.query["list-type"] != "2":
        return await list_v1(call)
    wanted = Wanted(call.query)
    token, after = call.query.get("continuation-token"), call.query.get("start-after", "")
    if token == "":
        raise S3Error(
            "InvalidArgument", "The continuation token provided is incorrect", ArgumentName="continuation-token"
        )
    page = await call.objects.list(
        call.bucket, wanted.prefix, wanted.delimiter, after, count=wanted.count, token=token, as_of_us=as_of(call)
    )
    return xml(document_v2(call.bucket, call.query, wanted, page, call.door.identities.names))


def document_v2(bucket: str, query: Mapping[str, str], wanted: Wanted, page: Page, names: Mapping[str, str]) -> str:
    """The answer to a `ListObjectsV2` that asked for `page`."""
    token, after = query.get("continuation-token"), query.get("start-after", "")
    shown = len(page.entries) + len(page.prefixes)
    inner = wanted.head(bucket)
    inner += element("MaxKeys", wanted.count) + element("KeyCount", shown)
    inner += element("IsTruncated", "true" if page.token else "false")
    if token is not None:
        inner += element("ContinuationToken", token)
    if page.token:
        inner += element("NextContinuationToken", page.token)
    if after:
        inner += f"<StartAfter>{wanted.text(after)}</StartAfter>"
    owners = query.get("fetch-owner", "").lower() == "true"
    inner += _contents(wanted, page.entries, names if owners else None) + wanted.prefixes(page)
    return document("ListBucketResult", inner)


@operation("GET", "bucket", "ListObjects", "s3:ListBucket")
async def list_v1(call: Call) -> Answer:
    wanted = Wanted(call.query)
    marker = call.query.get("marker", "")
    page = await call.objects.list(
        call.bucket, wanted.prefix, wanted.delimiter, marker, count=wanted.count, as_of_us=as_of(call)
    )
    inner = wanted.head(call.bucket) + f"<Marker>{wanted.text(marker)}</Marker>"
    inner += element("MaxKeys", wanted.count) + element("IsTruncated", "true" if page.token else "false")
    if page.token and page.next_key is not None and wanted.delimiter:
        inner += f"<NextMarker>{wanted.text(page.next_key)}</NextMarker>"
    inner += _contents(wanted, page.entries, call.door.identities.names) + wanted.prefixes(page)
    return xml(document("ListBucketResult", inner))


@operation("GET", "bucket", "ListObjectVersions", "s3:ListBucketVersions", field="versions")
async def list_versions(call: Call) -> Answer:
    wanted = Wanted(call.query)
    key_marker, version_marker = call.query.get("key-marker", ""), call.query.get("version-id-marker", "")
    page = await call.objects.list_versions(
        call.bucket, wanted.prefix, wanted.delimiter, key_marker, version_marker, count=wanted.count
    )
    text, names = wanted.text, call.door.identities.names
    inner = wanted.head(call.bucket)
    inner += f"<KeyMarker>{text(key_marker)}</KeyMarker>" + element("VersionIdMarker", version_marker)
    inner += element("MaxKeys", wanted.count) + element("IsTruncated", "true" if page.token else "false")
    if page.token and page.next_key is not None:
        inner += f"<NextKeyMarker>{text(page.next_key)}</NextKeyMarker>"
        if page.next_version is not None:
            inner += element("NextVersionIdMarker", page.next_version)
    lines = []
    for one in page.entries:
        name = "DeleteMarker" if one.marker else "Version"
        body = ""
        if not one.marker:
            checksum = ""
            if one.checksum is not None:
                checksum = element("ChecksumAlgorithm", one.checksum.algorithm) + element(
                    "ChecksumType", one.checksum.kind
                )
            body = f"<ETag>&quot;{one.etag}&quot;</ETag>{checksum}<Size>{one.size}</Size>"
            body += element("StorageClass", one.storage_class)
        lines.append(
            f"<{name}><Key>{text(one.key)}</Key><VersionId>{one.version}</VersionId>"
            f"<IsLatest>{'true' if one.latest else 'false'}</IsLatest>"
            f"<LastModified>{timestamp(one.modified_us)}</LastModified>{body}{_owner(one.owner, names)}</{name}>"
        )
    return xml(document("ListVersionsResult", inner + "".join(lines) + wanted.prefixes(page)))
