"""What may be changed of a version that is there: its tags, its retention, its legal hold."""

from mainspring.storage.objects.s3 import access
from mainspring.storage.objects.s3.answers import Answer, Header, xml
from mainspring.storage.objects.s3.call import Call
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.headers import iso, seconds
from mainspring.storage.objects.s3.object_handlers import looked_up
from mainspring.storage.objects.s3.routing import operation
from mainspring.storage.objects.s3.tagging import OBJECT_TAGS_MAX, tagging, tags_in_document
from mainspring.storage.objects.s3.wishes import viewed
from mainspring.storage.objects.s3.xml import document, element


def _action(call: Call, verb: str, what: str) -> str:
    return f"s3:{verb}Object{'' if call.version is None else 'Version'}{what}"


def _of_version(call: Call, version: str) -> list[Header]:
    return [(b"x-amz-version-id", version.encode())] if viewed(call).bucket.versioning else []


@operation("GET", "object", "GetObjectTagging", field="tagging")
async def get_tags(call: Call) -> Answer:
    found = await looked_up(call, _action(call, "Get", "Tagging"), call.version)
    return xml(tagging(found.tags), headers=_of_version(call, found.version))


@operation("PUT", "object", "PutObjectTagging", field="tagging")
async def put_tags(call: Call) -> Answer:
    await looked_up(call, _action(call, "Put", "Tagging"), call.version)
    tags = tags_in_document(await call.document("Tagging"), OBJECT_TAGS_MAX)
    version = await call.objects.set_tags(call.bucket, call.key, tags, call.version)
    return Answer(200, _of_version(call, version))


@operation("DELETE", "object", "DeleteObjectTagging", field="tagging")
async def delete_tags(call: Call) -> Answer:
    await looked_up(call, _action(call, "Delete", "Tagging"), call.version)
    version = await call.objects.set_tags(call.bucket, call.key, {}, call.version)
    return Answer(204, _of_version(call, version))


@operation("GET", "object", "GetObjectRetention", field="retention")
async def get_retention(call: Call) -> Answer:
    _must_lock(call)
    found = await looked_up(call, "s3:GetObjectRetention", call.version)
    if found.lock is None or found.lock.mode is None or found.lock.until_us is None:
        raise S3Error("NoSuchObjectLockConfiguration")
    inner = element("Mode", found.lock.mode) + element("RetainUntilDate", iso(found.lock.until_us))
    return xml(document("Retention", inner))


@operation("PUT", "object", "PutObjectRetention", "s3:PutObjectRetention", field="retention")
async def put_retention(call: Call) -> Answer:
    _must_lock(call)
    root = await call.document("Retention")
    mode, until = root.get("Mode") or None, root.get("RetainUntilDate") or None
    if mode not in (None, "GOVERNANCE", "COMPLIANCE") or (mode is None) != (until is None):
        raise S3Error("MalformedXML")
    until_s = seconds(until)
    if until is not None and until_s is None:
        raise S3Error("MalformedXML")
    bypass = call.flag(b"x-amz-bypass-governance-retention")
    if bypass:
        access.check(call, "s3:BypassGovernanceRetention", call.key)
    until_us = None if until_s is None else until_s * 1_000_000
    await call.objects.set_retention(call.bucket, call.key, mode, until_us, call.version, bypass_governance=bypass)
    return Answer(200)


@operation("GET", "object", "GetObjectLegalHold", field="legal-hold")
async def get_hold(call: Call) -> Answer:
    _must_lock(call)
    found = await looked_up(call, "s3:GetObjectLegalHold", call.version)
    if found.lock is None:
        raise S3Error("NoSuchObjectLockConfiguration")
    return xml(document("LegalHold", element("Status", "ON" if found.lock.hold else "OFF")))


@operation("PUT", "object", "PutObjectLegalHold", "s3:PutObjectLegalHold", field="legal-hold")
async def put_hold(call: Call) -> Answer:
    _must_lock(call)
    status = (await call.document("LegalHold")).get("Status")
    if status not in ("ON", "OFF"):
        raise S3Error("MalformedXML")
    await call.objects.set_legal_hold(call.bucket, call.key, status == "ON", call.version)
    return Answer(200)


def _must_lock(call: Call) -> None:
    if viewed(call).bucket.lock is None:
        raise S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")
