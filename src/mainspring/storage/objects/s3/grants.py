"""Access lists of buckets and objects: put, read, and what a new object or bucket gets from the headers of its request."""

from mainspring.storage.objects.s3 import acl as acls
from mainspring.storage.objects.s3.acl import Acl
from mainspring.storage.objects.s3.answers import Answer, xml
from mainspring.storage.objects.s3.call import Call
from mainspring.storage.objects.s3.documents import keep
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.object_handlers import acl_of, looked_up
from mainspring.storage.objects.s3.routing import operation
from mainspring.storage.objects.s3.wishes import viewed


@operation("GET", "bucket", "GetBucketAcl", "s3:GetBucketAcl", field="acl")
async def get_bucket_acl(call: Call) -> Answer:
    return xml(acls.document(viewed(call).acl, call.door.identities.names))


@operation("PUT", "bucket", "PutBucketAcl", "s3:PutBucketAcl", field="acl")
async def put_bucket_acl(call: Call) -> Answer:
    view = viewed(call)
    listed = await _given(call, view.owner)
    if view.enforced:
        if listed != acls.private(view.owner):
            raise S3Error("AccessControlListNotSupported")
        return Answer(200)
    await keep(call, "acl", acls.encode(listed))
    return Answer(200)


@operation("GET", "object", "GetObjectAcl", field="acl")
async def get_object_acl(call: Call) -> Answer:
    version = call.version
    found = await looked_up(call, "s3:GetObjectAcl" if version is None else "s3:GetObjectVersionAcl", version)
    listed = acls.private(viewed(call).owner) if viewed(call).enforced else acl_of(found)
    return xml(acls.document(listed, call.door.identities.names))


@operation("PUT", "object", "PutObjectAcl", field="acl")
async def put_object_acl(call: Call) -> Answer:
    version, view = call.version, viewed(call)
    found = await looked_up(call, "s3:PutObjectAcl" if version is None else "s3:PutObjectVersionAcl", version)
    owner = view.owner if view.enforced else acl_of(found).owner
    listed = await _given(call, owner)
    if view.enforced:
        if listed != acls.private(owner):
            raise S3Error("AccessControlListNotSupported")
        return Answer(200)
    await call.objects.set_acl(call.bucket, call.key, acls.encode(listed), version)
    return Answer(200)


async def _given(call: Call, owner: str) -> Acl:
    """The list that a request puts, by header or document, unless public ones are blocked."""
    view, emails = viewed(call), call.door.identities.emails
    listed = acls.in_headers(call.headers, owner, view.owner, emails)
    if listed is None:
        body = await call.bytes()
        if not body:
            raise S3Error(
                "MissingSecurityHeader", "Your request was missing a required header", MissingHeaderName="x-amz-acl"
            )
        listed = acls.in_document(body, owner, emails)
    if listed.public and view.block.block_acls:
        raise S3Error("AccessDenied", "Public access lists are blocked by the bucket's public access block")
    return listed
