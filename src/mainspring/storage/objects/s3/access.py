"""May this caller do this? One pipeline, for the door, for the simulator, and for several keys in one request.

In order: the scopes of the key; the session's policy; an explicit Deny of the bucket's policy; its Allow; the access
lists; the owner. Public access that the bucket blocks does not count. What decided is said, for the log and the simulator.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from mainspring.storage.objects.s3.acl import Acl
from mainspring.storage.objects.s3.actions import OBJECT_ACTIONS, reads_only
from mainspring.storage.objects.s3.buckets import BucketView
from mainspring.storage.objects.s3.call import Call
from mainspring.storage.objects.s3.conditions import Context
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.identity import Identity
from mainspring.storage.objects.s3.policy import Asked
from mainspring.storage.objects.s3.tagging import tags_in_header

OBJECT_PERMISSIONS = {
    "s3:GetObject": "READ",
    "s3:GetObjectVersion": "READ",
    "s3:GetObjectAttributes": "READ",
    "s3:GetObjectAcl": "READ_ACP",
    "s3:GetObjectVersionAcl": "READ_ACP",
    "s3:PutObjectAcl": "WRITE_ACP",
    "s3:PutObjectVersionAcl": "WRITE_ACP",
}
BUCKET_PERMISSIONS = {
    "s3:ListBucket": "READ",
    "s3:ListBucketVersions": "READ",
    "s3:ListBucketMultipartUploads": "READ",
    "s3:PutObject": "WRITE",
    "s3:DeleteObject": "WRITE",
    "s3:AbortMultipartUpload": "WRITE",
    "s3:ListMultipartUploadParts": "WRITE",
    "s3:GetBucketAcl": "READ_ACP",
    "s3:PutBucketAcl": "WRITE_ACP",
}


class Verdict(msgspec.Struct, frozen=True):
    """`by` is what decided: scope, session, policy, acl, owner, or nobody. `statement` is that of the policy."""

    allowed: bool
    by: str
    statement: str = ""


def decide(
    identity: Identity,
    action: str,
    view: BucketView | None,
    key: str,
    context: Context,
    object_acl: Acl | None = None,
) -> Verdict:
    """`key` is empty for the bucket itself. `object_acl` is given where the object is known and has a list of its own."""
    resource = "*" if view is None else f"{view.arn}/{key}" if action in OBJECT_ACTIONS else view.arn
    if not (identity.reads or identity.writes if reads_only(action) else identity.writes) and not identity.anonymous:
        return Verdict(False, "scope")
    asked = Asked(identity.principal, action, resource, context)
    if identity.session is not None and identity.session.decide(asked).outcome != "allow":
        return Verdict(False, "session")
    if view is None:
        return Verdict(not identity.anonymous, "owner" if not identity.anonymous else "nobody")
    owns = identity.admin or identity.id == view.owner
    if view.policy is not None:
        decision = view.policy.decide(asked)
        # Whoever owns the bucket can always mend a policy that locks everybody out.
        if decision.outcome == "deny" and not (owns and action.endswith("BucketPolicy")):
            return Verdict(False, "policy", decision.statement)
        blocked = view.block.restrict and view.policy.public and not owns
        if decision.outcome == "allow" and not blocked:
            return Verdict(True, "policy", decision.statement)
    if object_acl is not None and not view.enforced and action in OBJECT_PERMISSIONS:
        if identity.id == object_acl.owner:
            return Verdict(True, "owner")
        allowed = object_acl.allows(identity, OBJECT_PERMISSIONS[action], ignore_public=view.block.ignore_acls)
        return Verdict(allowed or identity.admin, "acl")
    if owns:
        return Verdict(True, "owner")
    permission = BUCKET_PERMISSIONS.get(action)
    if permission is not None and not view.enforced:
        allowed = view.acl.allows(identity, permission, ignore_public=view.block.ignore_acls)
        return Verdict(allowed, "acl" if allowed else "nobody")
    return Verdict(False, "nobody")


def may_depend_on_object(action: str, view: BucketView) -> bool:
    """Whether the object's own list must be known for a decision."""
    return not view.enforced and action in OBJECT_PERMISSIONS


def is_plainly_allowed(identity: Identity, view: BucketView) -> bool:
    """Whether somebody may do everything here, so that nothing about the request has to be asked."""
    plain = view.policy is None and view.enforced and identity.session is None and identity.writes
    return plain and (identity.id == view.owner or identity.admin)


def check(call: Call, action: str, key: str, object_acl: Acl | None = None, view: BucketView | None = None) -> None:
    """Raises `AccessDenied`."""
    view = view or call.view
    identity = call.identity
    if view is not None and is_plainly_allowed(identity, view):
        return
    verdict = decide(identity, action, view, key, Context(gather(call)), object_acl)
    call.door.note_verdict(call, action, verdict)
    if not verdict.allowed:
        raise S3Error("AccessDenied")


def allowed(call: Call, action: str, key: str, object_acl: Acl | None = None) -> bool:
    """Whether `check` would pass."""
    return decide(call.identity, action, call.view, key, Context(gather(call)), object_acl).allowed


_FROM_QUERY = {
    "s3:prefix": "prefix",
    "s3:delimiter": "delimiter",
    "s3:max-keys": "max-keys",
    "s3:versionid": "versionId",
}
_FROM_HEADERS = {
    "aws:useragent": b"user-agent",
    "aws:referer": b"referer",
    "s3:x-amz-acl": b"x-amz-acl",
    "s3:x-amz-copy-source": b"x-amz-copy-source",
    "s3:x-amz-metadata-directive": b"x-amz-metadata-directive",
    "s3:x-amz-server-side-encryption": b"x-amz-server-side-encryption",
    "s3:x-amz-server-side-encryption-aws-kms-key-id": b"x-amz-server-side-encryption-aws-kms-key-id",
    "s3:x-amz-server-side-encryption-customer-algorithm": b"x-amz-server-side-encryption-customer-algorithm",
    "s3:x-amz-storage-class": b"x-amz-storage-class",
    "s3:x-amz-website-redirect-location": b"x-amz-website-redirect-location",
    "s3:x-amz-content-sha256": b"x-amz-content-sha256",
    "s3:x-amz-grant-read": b"x-amz-grant-read",
    "s3:x-amz-grant-write": b"x-amz-grant-write",
    "s3:x-amz-grant-read-acp": b"x-amz-grant-read-acp",
    "s3:x-amz-grant-write-acp": b"x-amz-grant-write-acp",
    "s3:x-amz-grant-full-control": b"x-amz-grant-full-control",
    "s3:if-match": b"if-match",
    "s3:if-none-match": b"if-none-match",
    "s3:object-lock-mode": b"x-amz-object-lock-mode",
    "s3:object-lock-legal-hold": b"x-amz-object-lock-legal-hold",
    "s3:object-lock-retain-until-date": b"x-amz-object-lock-retain-until-date",
    "s3:x-amz-object-ownership": b"x-amz-object-ownership",
}


def gather(call: Call) -> Callable[[str], Sequence[str] | None]:
    """The values of condition keys (lower case) for this request."""

    def values(key: str) -> Sequence[str] | None:
        if (field := _FROM_QUERY.get(key)) is not None:
            value = call.query.get(field)
            return None if value is None else (value,)
        if (header := _FROM_HEADERS.get(key)) is not None:
            text = call.header(header)
            return None if text is None else (text,)
        return _named(call, key)

    return values


def _named(call: Call, key: str) -> Sequence[str] | None:
    identity = call.identity
    now_s = call.door.clock.wall_ns() / 1e9
    if key == "aws:sourceip":
        return (call.client,) if call.client else None
    if key == "aws:securetransport":
        return ("true" if call.secure else "false",)
    if key == "aws:currenttime":
        return (datetime.fromtimestamp(now_s, UTC).isoformat(),)
    if key == "aws:epochtime":
        return (str(int(now_s)),)
    if key == "aws:principaltype":
        return ("Anonymous",) if identity.anonymous else ("AssumedRole",) if identity.session_arn else ("Account",)
    if identity.anonymous and key.startswith(("aws:principal", "aws:user")):
        return None
    if key == "aws:principalarn":
        return (identity.session_arn or identity.arn,)
    if key == "aws:principalaccount":
        return (identity.account,)
    if key == "aws:username":
        return (identity.name,)
    if key == "aws:userid":
        return (identity.account,)
    if key == "aws:requestedregion":
        return (call.door.region,)
    if key == "s3:resourceaccount":
        return None
    if key == "s3:signatureversion":
        return ("AWS4-HMAC-SHA256",) if call.signed_by else None
    if key == "s3:authtype":
        return (
            ({"header": "REST-HEADER", "query": "REST-QUERY-STRING", "form": "POST"}[call.signed_by],)
            if call.signed_by
            else None
        )
    if key == "s3:signatureage":
        return (str(call.signature_age_ms),) if call.signed_by == "query" else None
    if key.startswith("s3:existingobjecttag/"):
        return _one(call.existing_tags, key)
    if key.startswith("s3:requestobjecttag"):
        tags = tags_in_header(call.header(b"x-amz-tagging"))
        return tuple(tags) if key == "s3:requestobjecttagkeys" else _one(tags, key)
    return None


def _one(tags: Mapping[str, str], key: str) -> Sequence[str] | None:
    name = key.partition("/")[2]
    return next(((value,) for tag, value in tags.items() if tag.lower() == name), None)
