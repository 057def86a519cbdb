"""Settings of a bucket that are documents: put, read back, deleted; each kind is one row of a table.

A document is checked when it is put and kept as it was given, without what XML adds to it; what it means is read where it is
acted on. Kinds with meaning of their own (policy, lists, CORS, lifecycle) have handlers of their own below the table.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from mainspring.storage.objects.s3 import cors, logging_rules, notifications, website_rules
from mainspring.storage.objects.s3.answers import Answer, xml
from mainspring.storage.objects.s3.buckets import ENFORCED, PublicAccessBlock
from mainspring.storage.objects.s3.call import Call
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.policy import compile_policy
from mainspring.storage.objects.s3.routing import operation
from mainspring.storage.objects.s3.tagging import BUCKET_TAGS_MAX, tagging, tags_in_document
from mainspring.storage.objects.s3.xml import Node, document, element, elements

CONFIGURATIONS_MAX = 1_000
OWNERSHIPS = (ENFORCED, "BucketOwnerPreferred", "ObjectWriter")


class Kind(NamedTuple):
    """`absent` is the code where there is none, or the empty document's inner text where that is an answer."""

    field: str
    root: str
    name: str
    get_action: str
    put_action: str
    absent: str
    check: Callable[[Node], None]
    delete: bool = False


async def keep(call: Call, kind: str, kept: bytes | None) -> None:
    """Stores a document (None: forgets it), in force on this node at once."""
    await call.objects.set_setting(call.bucket, kind, kept)
    call.door.buckets.forget(call.bucket)


def kept(call: Call, kind: str, absent: str) -> bytes:
    """The document of this kind. Raises the code `absent`."""
    assert call.view is not None
    found = call.view.documents.get(kind)
    if not found:
        raise S3Error(absent, BucketName=call.bucket)
    return found


def _inner(root: Node) -> bytes:
    return "".join(child.written() for child in root.children).encode()


def _one_of(name: str, values: Sequence[str]) -> Callable[[Node], None]:
    def check(root: Node) -> None:
        if root.get(name) not in values:
            raise S3Error("MalformedXML")

    return check


def _encryption(root: Node) -> None:
    rules = root.all("Rule")
    if len(rules) != 1:
        raise S3Error("MalformedXML")
    default = rules[0].one("ApplyServerSideEncryptionByDefault")
    if default is None:
        raise S3Error("MalformedXML")
    algorithm, key = default.get("SSEAlgorithm"), default.get("KMSMasterKeyID")
    if algorithm not in ("AES256", "aws:kms", "aws:kms:dsse"):
        raise S3Error("MalformedXML")
    if key and algorithm == "AES256":
        raise S3Error(
            "InvalidArgument", "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms"
        )


def _replication(root: Node) -> None:
    rules = root.all("Rule")
    if not root.get("Role") or not rules or len(rules) > CONFIGURATIONS_MAX:
        raise S3Error("MalformedXML")
    if any(rule.get("Status") not in ("Enabled", "Disabled") or rule.one("Destination") is None for rule in rules):
        raise S3Error("MalformedXML")


KINDS = (
    Kind(
        "encryption",
        "ServerSideEncryptionConfiguration",
        "BucketEncryption",
        "s3:GetEncryptionConfiguration",
        "s3:PutEncryptionConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
        _encryption,
        delete=True,
    ),
    Kind(
        "website",
        "WebsiteConfiguration",
        "BucketWebsite",
        "s3:GetBucketWebsite",
        "s3:PutBucketWebsite",
        "NoSuchWebsiteConfiguration",
        website_rules.check,
        delete=True,
    ),
    Kind(
        "notification",
        "NotificationConfiguration",
        "BucketNotificationConfiguration",
        "s3:GetBucketNotification",
        "s3:PutBucketNotification",
        "",
        notifications.check,
    ),
    Kind(
        "logging",
        "BucketLoggingStatus",
        "BucketLogging",
        "s3:GetBucketLogging",
        "s3:PutBucketLogging",
        "",
        logging_rules.check,
    ),
    Kind(
        "requestPayment",
        "RequestPaymentConfiguration",
        "BucketRequestPayment",
        "s3:GetBucketRequestPayment",
        "s3:PutBucketRequestPayment",
        "<Payer>BucketOwner</Payer>",
        _one_of("Payer", ("BucketOwner", "Requester")),
    ),
    Kind(
        "replication",
        "ReplicationConfiguration",
        "BucketReplication",
        "s3:GetReplicationConfiguration",
        "s3:PutReplicationConfiguration",
        "ReplicationConfigurationNotFoundError",
        _replication,
        delete=True,
    ),
    Kind(
        "accelerate",
        "AccelerateConfiguration",
        "BucketAccelerateConfiguration",
        "s3:GetAccelerateConfiguration",
        "s3:PutAccelerateConfiguration",
        "",
        _one_of("Status", ("Enabled", "Suspended")),
    ),
)


def _register(kind: Kind) -> None:
    @operation("PUT", "bucket", f"Put{kind.name}", kind.put_action, field=kind.field)
    async def put(call: Call) -> Answer:
        root = await call.document(kind.root)
        kind.check(root)
        await _before(call, kind.field, root)
        await keep(call, kind.field, _inner(root) or None)
        return Answer(200)

    @operation("GET", "bucket", f"Get{kind.name}", kind.get_action, field=kind.field)
    async def get(call: Call) -> Answer:
        assert call.view is not None
        found = call.view.documents.get(kind.field)
        if not found and kind.absent and not kind.absent.startswith("<"):
            raise S3Error(kind.absent, BucketName=call.bucket)
        return xml(document(kind.root, found.decode() if found else kind.absent))

    if kind.delete:

        @operation("DELETE", "bucket", f"Delete{kind.name}", kind.put_action, field=kind.field)
        async def delete(call: Call) -> Answer:
            await keep(call, kind.field, None)
            return Answer(204)


async def _before(call: Call, field: str, root: Node) -> None:
    """What a document names must be there."""
    if field == "logging" and (target := logging_rules.read(root)) is not None:
        await logging_rules.must_exist(call, target)
    if field == "notification":
        # Whoever asks today does not want to hear of yesterday.
        await keep(call, "notification.since", str(call.objects.now_us()).encode())
    if field == "replication":
        assert call.view is not None
        if not call.view.bucket.versioning:
            raise S3Error(
                "InvalidRequest", "Versioning must be 'Enabled' on the bucket to apply a replication configuration"
            )


for _kind in KINDS:
    _register(_kind)


def _register_listed(field: str, root_name: str, name: str, action: str) -> None:
    """Configurations of which a bucket has several, each with an id; they are kept and returned."""

    def read(call: Call) -> dict[str, str]:
        assert call.view is not None
        found = call.view.documents.get(field)
        return msgspec.json.decode(found, type=dict[str, str]) if found else {}

    def named(call: Call) -> str:
        id = call.query.get("id", "")
        if not 0 < len(id) <= 64:
            raise S3Error("InvalidArgument", "Missing required parameter id", ArgumentName="id")
        return id

    @operation("PUT", "bucket", f"PutBucket{name}", f"s3:Put{action}", field=field)
    async def put(call: Call) -> Answer:
        id, root, known = named(call), await call.document(root_name), read(call)
        if root.get("Id") != id or (id not in known and len(known) >= CONFIGURATIONS_MAX):
            raise S3Error("InvalidArgument", "The id does not match, or there are too many", ArgumentName="id")
        await keep(call, field, msgspec.json.encode(known | {id: _inner(root).decode()}))
        return Answer(200)

    @operation("GET", "bucket", f"GetBucket{name}", f"s3:Get{action}", field=field)
    async def get(call: Call) -> Answer:
        known = read(call)
        if "id" not in call.query:
            inner = "".join(f"<{root_name}>{one}</{root_name}>" for one in known.values())
            return xml(document(f"List{name}sResult", "<IsTruncated>false</IsTruncated>" + inner))
        if named(call) not in known:
            raise S3Error("NoSuchConfiguration")
        return xml(document(root_name, known[named(call)]))

    @operation("DELETE", "bucket", f"DeleteBucket{name}", f"s3:Put{action}", field=field)
    async def delete(call: Call) -> Answer:
        known = read(call)
        if known.pop(named(call), None) is None:
            raise S3Error("NoSuchConfiguration")
        await keep(call, field, msgspec.json.encode(known) if known else None)
        return Answer(204)


for _field, _root, _name in (
    ("analytics", "AnalyticsConfiguration", "AnalyticsConfiguration"),
    ("inventory", "InventoryConfiguration", "InventoryConfiguration"),
    ("metrics", "MetricsConfiguration", "MetricsConfiguration"),
    ("intelligent-tiering", "IntelligentTieringConfiguration", "IntelligentTieringConfiguration"),
):
    _register_listed(_field, _root, _name, _name)


@operation("PUT", "bucket", "PutBucketCors", "s3:PutBucketCORS", field="cors")
async def put_cors(call: Call) -> Answer:
    await keep(call, "cors", cors.encode(cors.read(await call.document("CORSConfiguration"))))
    return Answer(200)


@operation("GET", "bucket", "GetBucketCors", "s3:GetBucketCORS", field="cors")
async def get_cors(call: Call) -> Answer:
    return xml(cors.written(cors.decode(kept(call, "cors", "NoSuchCORSConfiguration"))))


@operation("DELETE", "bucket", "DeleteBucketCors", "s3:PutBucketCORS", field="cors")
async def delete_cors(call: Call) -> Answer:
    await keep(call, "cors", None)
    return Answer(204)


@operation("PUT", "bucket", "PutBucketPolicy", "s3:PutBucketPolicy", field="policy")
async def put_policy(call: Call) -> Answer:
    assert call.view is not None
    body = await call.body.whole(1 << 20)
    policy = compile_policy(body, call.bucket)
    if policy.public and call.view.block.block_policy:
        raise S3Error("AccessDenied", "Public policies are blocked by the bucket's public access block")
    await keep(call, "policy", body)
    return Answer(204)


@operation("GET", "bucket", "GetBucketPolicy", "s3:GetBucketPolicy", field="policy")
async def get_policy(call: Call) -> Answer:
    return Answer(200, (), kept(call, "policy", "NoSuchBucketPolicy"), b"application/json")


@operation("DELETE", "bucket", "DeleteBucketPolicy", "s3:DeleteBucketPolicy", field="policy")
async def delete_policy(call: Call) -> Answer:
    await keep(call, "policy", None)
    return Answer(204)


@operation("GET", "bucket", "GetBucketPolicyStatus", "s3:GetBucketPolicyStatus", field="policyStatus")
async def policy_status(call: Call) -> Answer:
    view = call.view
    assert view is not None
    if view.policy is None:
        raise S3Error("NoSuchBucketPolicy")
    return xml(document("PolicyStatus", elements([("IsPublic", view.policy.public and not view.block.restrict)])))


@operation("PUT", "bucket", "PutPublicAccessBlock", "s3:PutBucketPublicAccessBlock", field="publicAccessBlock")
async def put_block(call: Call) -> Answer:
    root = await call.document("PublicAccessBlockConfiguration")

    def on(name: str) -> bool:
        text = root.get(name, "false").lower()
        if text not in ("true", "false"):
            raise S3Error("MalformedXML")
        return text == "true"

    block = PublicAccessBlock(
        on("BlockPublicAcls"), on("IgnorePublicAcls"), on("BlockPublicPolicy"), on("RestrictPublicBuckets")
    )
    await keep(call, "publicAccessBlock", msgspec.json.encode(block))
    return Answer(200)


@operation("GET", "bucket", "GetPublicAccessBlock", "s3:GetBucketPublicAccessBlock", field="publicAccessBlock")
async def get_block(call: Call) -> Answer:
    kept(call, "publicAccessBlock", "NoSuchPublicAccessBlockConfiguration")
    assert call.view is not None
    block = call.view.block
    inner = elements(
        [
            ("BlockPublicAcls", block.block_acls),
            ("IgnorePublicAcls", block.ignore_acls),
            ("BlockPublicPolicy", block.block_policy),
            ("RestrictPublicBuckets", block.restrict),
        ]
    )
    return xml(document("PublicAccessBlockConfiguration", inner))


@operation("DELETE", "bucket", "DeletePublicAccessBlock", "s3:PutBucketPublicAccessBlock", field="publicAccessBlock")
async def delete_block(call: Call) -> Answer:
    await keep(call, "publicAccessBlock", None)
    return Answer(204)


@operation("PUT", "bucket", "PutBucketOwnershipControls", "s3:PutBucketOwnershipControls", field="ownershipControls")
async def put_ownership(call: Call) -> Answer:
    rule = (await call.document("OwnershipControls")).one("Rule")
    ownership = rule.get("ObjectOwnership") if rule is not None else ""
    if ownership not in OWNERSHIPS:
        raise S3Error("MalformedXML")
    assert call.view is not None
    granted = [grant for grant in call.view.acl.grants if grant.grantee != call.view.owner]
    if ownership == ENFORCED and granted and not call.view.enforced:
        raise S3Error("InvalidBucketAclWithObjectOwnership")
    await keep(call, "ownershipControls", ownership.encode())
    return Answer(200)


@operation("GET", "bucket", "GetBucketOwnershipControls", "s3:GetBucketOwnershipControls", field="ownershipControls")
async def get_ownership(call: Call) -> Answer:
    assert call.view is not None
    inner = f"<Rule>{element('ObjectOwnership', call.view.ownership)}</Rule>"
    return xml(document("OwnershipControls", inner))


@operation(
    "DELETE", "bucket", "DeleteBucketOwnershipControls", "s3:PutBucketOwnershipControls", field="ownershipControls"
)
async def delete_ownership(call: Call) -> Answer:
    await keep(call, "ownershipControls", b"ObjectWriter")
    return Answer(204)


@operation("PUT", "bucket", "PutBucketTagging", "s3:PutBucketTagging", field="tagging")
async def put_tagging(call: Call) -> Answer:
    tags = tags_in_document(await call.document("Tagging"), BUCKET_TAGS_MAX)
    await keep(call, "tagging", msgspec.json.encode(tags))
    return Answer(204)


@operation("GET", "bucket", "GetBucketTagging", "s3:GetBucketTagging", field="tagging")
async def get_tagging(call: Call) -> Answer:
    return xml(tagging(msgspec.json.decode(kept(call, "tagging", "NoSuchTagSet"), type=dict[str, str])))


@operation("DELETE", "bucket", "DeleteBucketTagging", "s3:PutBucketTagging", field="tagging")
async def delete_tagging(call: Call) -> Answer:
    await keep(call, "tagging", None)
    return Answer(204)
