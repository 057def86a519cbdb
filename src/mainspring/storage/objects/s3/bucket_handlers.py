"""Buckets: create, delete, head, list, where they are, and versioning."""

import re

from mainspring.storage.objects.model import LockDefault, Versioning
from mainspring.storage.objects.s3 import access
from mainspring.storage.objects.s3 import acl as acls
from mainspring.storage.objects.s3.answers import Answer, Header, xml
from mainspring.storage.objects.s3.buckets import ENFORCED
from mainspring.storage.objects.s3.call import Call
from mainspring.storage.objects.s3.documents import OWNERSHIPS
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.routing import operation
from mainspring.storage.objects.s3.xml import document, element, elements, escaped, timestamp

BUCKETS_MAX = 10_000
_REGION = re.compile(r"[a-z0-9-]{0,40}")


@operation("GET", "service", "ListBuckets", "s3:ListAllMyBuckets")
async def list_buckets(call: Call) -> Answer:
    most = call.number("max-buckets", BUCKETS_MAX, BUCKETS_MAX)
    if most < 1:
        raise S3Error("InvalidArgument", ArgumentName="max-buckets")
    prefix, after = call.query.get("prefix", ""), call.query.get("continuation-token", "")
    identity = call.identity
    owner = None if identity.admin else identity.id
    found = await call.objects.list_buckets(owner=owner, prefix=prefix, after=after, count=min(most + 1, BUCKETS_MAX))
    region = call.query.get("bucket-region")
    shown = [one for one in found[:most] if region is None or one.region == region]
    inner = "".join(
        f"<Bucket>{element('Name', one.name)}{element('CreationDate', timestamp(one.created_us))}"
        f"{element('BucketRegion', one.region)}</Bucket>"
        for one in shown
    )
    who = f"<Owner>{element('ID', identity.id)}{element('DisplayName', identity.name)}</Owner>"
    more = element("ContinuationToken", found[most - 1].name) if len(found) > most else ""
    asked = element("Prefix", prefix) if "prefix" in call.query else ""
    return xml(document("ListAllMyBucketsResult", f"{who}<Buckets>{inner}</Buckets>{more}{asked}"))


@operation("PUT", "bucket", "CreateBucket")
async def create(call: Call) -> Answer:
    access.check(call, "s3:CreateBucket", "")
    headers = call.headers
    body = await call.bytes()
    region = call.door.region
    if body:
        root = _configuration(body)
        region = root or region
    ownership = call.header(b"x-amz-object-ownership") or ENFORCED
    if ownership not in OWNERSHIPS:
        raise S3Error("InvalidArgument", ArgumentName="x-amz-object-ownership", ArgumentValue=ownership[:60])
    owner = call.identity.id
    listed = acls.in_headers(headers, owner, owner, call.door.identities.emails)
    granted = listed is not None and listed != acls.private(owner)
    if granted and ownership == ENFORCED:
        if b"x-amz-object-ownership" in headers:
            raise S3Error("InvalidBucketAclWithObjectOwnership")
        # Whoever asks for a list without saying so wants lists to count.
        ownership = "ObjectWriter"
    lock = call.flag(b"x-amz-bucket-object-lock-enabled")
    bucket = await call.objects.create_bucket(call.bucket, owner=owner, region=region, lock=lock)
    if ownership != ENFORCED:
        await call.objects.set_setting(bucket.name, "ownershipControls", ownership.encode())
    if granted and listed is not None:
        await call.objects.set_setting(bucket.name, "acl", acls.encode(listed))
    call.door.buckets.forget(bucket.name)
    arn: Header = (b"x-amz-bucket-arn", f"arn:aws:s3:::{bucket.name}".encode())
    return Answer(200, [(b"location", f"/{bucket.name}".encode()), arn])


def _configuration(body: bytes) -> str:
    """The region of a `CreateBucketConfiguration`."""
    from mainspring.storage.objects.s3.xml import Malformed, parse

    try:
        root = parse(body, "CreateBucketConfiguration")
    except Malformed as error:
        raise S3Error("MalformedXML", str(error)) from None
    region = root.get("LocationConstraint").strip()
    if not _REGION.fullmatch(region):
        raise S3Error("InvalidLocationConstraint")
    return "eu-west-1" if region == "EU" else region


@operation("HEAD", "bucket", "HeadBucket", "s3:ListBucket")
async def head(call: Call) -> Answer:
    assert call.view is not None
    return Answer(200, [(b"x-amz-bucket-region", call.view.bucket.region.encode())], b"", b"application/xml")


@operation("DELETE", "bucket", "DeleteBucket", "s3:DeleteBucket")
async def delete(call: Call) -> Answer:
    await call.objects.delete_bucket(call.bucket)
    call.door.buckets.forget(call.bucket)
    return Answer(204)


@operation("GET", "bucket", "GetBucketLocation", "s3:GetBucketLocation", field="location")
async def location(call: Call) -> Answer:
    assert call.view is not None
    region = call.view.bucket.region
    return xml(document("LocationConstraint", "" if region == "us-east-1" else escaped(region)))


@operation("GET", "bucket", "GetBucketVersioning", "s3:GetBucketVersioning", field="versioning")
async def get_versioning(call: Call) -> Answer:
    assert call.view is not None
    state = {Versioning.ENABLED: "Enabled", Versioning.SUSPENDED: "Suspended"}.get(call.view.bucket.versioning)
    return xml(document("VersioningConfiguration", elements([("Status", state)])))


@operation("PUT", "bucket", "PutBucketVersioning", "s3:PutBucketVersioning", field="versioning")
async def put_versioning(call: Call) -> Answer:
    status = (await call.document("VersioningConfiguration")).get("Status")
    if status not in ("Enabled", "Suspended"):
        raise S3Error("IllegalVersioningConfigurationException")
    await call.objects.set_versioning(call.bucket, Versioning.ENABLED if status == "Enabled" else Versioning.SUSPENDED)
    call.door.buckets.forget(call.bucket)
    return Answer(200)


@operation("GET", "bucket", "GetObjectLockConfiguration", "s3:GetBucketObjectLockConfiguration", field="object-lock")
async def get_lock(call: Call) -> Answer:
    assert call.view is not None
    default = call.view.bucket.lock
    if default is None:
        raise S3Error("ObjectLockConfigurationNotFoundError", BucketName=call.bucket)
    inner = element("ObjectLockEnabled", "Enabled")
    if default.mode is not None:
        kept = elements([("Mode", default.mode), ("Days", default.days), ("Years", default.years)])
        inner += f"<Rule><DefaultRetention>{kept}</DefaultRetention></Rule>"
    return xml(document("ObjectLockConfiguration", inner))


@operation("PUT", "bucket", "PutObjectLockConfiguration", "s3:PutBucketObjectLockConfiguration", field="object-lock")
async def put_lock(call: Call) -> Answer:
    root = await call.document("ObjectLockConfiguration")
    if root.get("ObjectLockEnabled") != "Enabled":
        raise S3Error("MalformedXML")
    rule = root.one("Rule")
    default = LockDefault()
    if rule is not None:
        kept = rule.one("DefaultRetention")
        if kept is None or kept.get("Mode") not in ("GOVERNANCE", "COMPLIANCE"):
            raise S3Error("MalformedXML")
        days, years = kept.get("Days"), kept.get("Years")
        if bool(days) == bool(years):
            raise S3Error("MalformedXML")
        text = days or years
        if not text.isascii() or not text.isdigit() or not 0 < int(text[:6]) <= (36_500 if days else 100):
            raise S3Error("InvalidArgument", "Default retention period must be a positive integer value.")
        default = LockDefault(kept.get("Mode"), int(days) if days else None, int(years) if years else None)
    await call.objects.set_lock_default(call.bucket, default)
    call.door.buckets.forget(call.bucket)
    return Answer(200)
