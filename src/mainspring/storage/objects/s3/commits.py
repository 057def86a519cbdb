"""What S3 does not have: many changes of a bucket at one moment, all or none; and renames that move no byte.

    POST /BUCKET?commit
    <Commit>
      <Put><Key>a</Key><Body>aGVsbG8=</Body><IfNoneMatch>*</IfNoneMatch></Put>
      <Complete><Key>large</Key><UploadId>…</UploadId><Part><PartNumber>1</PartNumber><ETag>…</ETag></Part></Complete>
      <Copy><Key>b</Key><Source>BUCKET/a</Source></Copy>
      <Delete><Key>c</Key><IfMatch>"…"</IfMatch></Delete>
    </Commit>

Bodies that are too large for a document are staged before as uploads in parts, which nobody sees until the commit completes
them.
A rename is a PUT of the new key with `?renameObject` and `x-amz-rename-source`, as directory buckets have it; a key that ends
with a slash renames all that begins with it.
"""

from base64 import b64decode
from binascii import Error as Base64Error
from typing import Any
from urllib.parse import unquote

from mainspring.core.problems import Problem
from mainspring.storage.objects.conditions import WriteIf
from mainspring.storage.objects.model import Deleted, Object
from mainspring.storage.objects.moves import Changes, Complete, Copy, Delete, Source
from mainspring.storage.objects.s3 import access
from mainspring.storage.objects.s3.answers import Answer, xml
from mainspring.storage.objects.s3.call import Call
from mainspring.storage.objects.s3.errors import S3Error, told
from mainspring.storage.objects.s3.headers import write_if
from mainspring.storage.objects.s3.routing import operation
from mainspring.storage.objects.s3.uploads import wanted_part
from mainspring.storage.objects.s3.wishes import owner_of_new
from mainspring.storage.objects.s3.xml import Node, document, element, elements
from mainspring.storage.objects.staging import StagedPut, Wish

OPERATIONS_MAX = 1_000


@operation("POST", "bucket", "Commit", field="commit")
async def commit(call: Call) -> Answer:
    root = await call.document("Commit")
    if not 0 < len(root.children) <= OPERATIONS_MAX:
        raise S3Error("MalformedXML")
    plan = [_operation(call, node) for node in root.children]
    try:
        done = await call.objects.commit(call.bucket, plan)
    except Problem as problem:
        if "operation" not in problem.more:
            raise
        _, code, message = told(problem)
        raise S3Error(code, message, Operation=problem.more["operation"]) from None
    return xml(document("CommitResult", "".join(_told(one) for one in done)))


def _operation(call: Call, node: Node) -> Any:
    key = node.get("Key")
    if not key:
        raise S3Error("MalformedXML")
    condition = WriteIf(node.get("IfMatch") or None, node.get("IfNoneMatch") or None)
    if node.name == "Delete":
        version = node.get("VersionId") or None
        access.check(call, "s3:DeleteObject" if version is None else "s3:DeleteObjectVersion", key)
        return Delete(key, version, condition)
    access.check(call, "s3:PutObject", key)
    if node.name == "Put":
        try:
            body = b64decode(node.get("Body"), validate=True)
        except (Base64Error, ValueError):
            raise S3Error("MalformedXML", "The body of a Put is base64") from None
        kept = {"content-type": node.get("ContentType") or "binary/octet-stream"}
        return StagedPut(key, body, len(body), Wish(headers=kept, condition=condition, owner=owner_of_new(call)))
    if node.name == "Complete":
        return Complete(key, node.get("UploadId"), tuple(map(wanted_part, node.all("Part"))), condition)
    if node.name == "Copy":
        bucket, slash, source = node.get("Source").removeprefix("/").partition("/")
        if not slash or bucket != call.bucket:
            raise S3Error("InvalidArgument", "A commit copies within its bucket", ArgumentName="Source")
        version = node.get("SourceVersionId") or None
        access.check(call, "s3:GetObject" if version is None else "s3:GetObjectVersion", source)
        return Copy(Source(bucket, source, version), key, condition, Changes(owner=owner_of_new(call)))
    raise S3Error("MalformedXML")


def _told(done: Object | Deleted) -> str:
    if isinstance(done, Deleted):
        inner = elements([("Key", done.key), ("VersionId", done.version), ("DeleteMarker", done.marker)])
        return f"<Deleted>{inner}</Deleted>"
    inner = elements([("Key", done.key), ("VersionId", done.version if done.versioned else None)])
    return f"<Stored>{inner}<ETag>&quot;{done.etag}&quot;</ETag></Stored>"


@operation("PUT", "object", "RenameObject", "s3:PutObject", field="renameObject")
async def rename(call: Call) -> Answer:
    bucket, slash, source = unquote(call.header(b"x-amz-rename-source") or "").removeprefix("/").partition("/")
    if not slash or bucket != call.bucket or not source:
        raise S3Error(
            "InvalidArgument", "x-amz-rename-source is BUCKET/KEY of this bucket", ArgumentName="x-amz-rename-source"
        )
    access.check(call, "s3:GetObject", source)
    access.check(call, "s3:DeleteObject", source)
    if source.endswith("/") and call.key.endswith("/"):
        count = await call.objects.rename_prefix(call.bucket, source, call.key)
        return xml(document("RenameResult", element("Renamed", count)))
    await call.objects.rename(call.bucket, source, call.key, condition=write_if(call))
    return Answer(200)
