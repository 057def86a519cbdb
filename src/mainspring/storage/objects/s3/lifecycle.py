"""Lifecycle configurations: read into the rules that the engine acts on, and kept as they were given."""

import secrets
from datetime import UTC, datetime

import msgspec

from mainspring.storage.objects.lifecycle import KIND, Rule, Transition
from mainspring.storage.objects.s3.answers import Answer, xml
from mainspring.storage.objects.s3.call import Call
from mainspring.storage.objects.s3.documents import keep, kept
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.headers import STORAGE_CLASSES
from mainspring.storage.objects.s3.routing import operation
from mainspring.storage.objects.s3.xml import Node, document

RULES_MAX = 1_000
ID_LETTERS_MAX = 255


@operation("PUT", "bucket", "PutBucketLifecycleConfiguration", "s3:PutLifecycleConfiguration", field="lifecycle")
async def put(call: Call) -> Answer:
    root = await call.document("LifecycleConfiguration")
    rules = read(root)
    await keep(call, KIND, msgspec.json.encode(rules))
    await keep(call, "lifecycle", "".join(child.written() for child in root.children).encode())
    return Answer(200)


@operation("GET", "bucket", "GetBucketLifecycleConfiguration", "s3:GetLifecycleConfiguration", field="lifecycle")
async def get(call: Call) -> Answer:
    found = kept(call, "lifecycle", "NoSuchLifecycleConfiguration")
    return xml(document("LifecycleConfiguration", found.decode()))


@operation("DELETE", "bucket", "DeleteBucketLifecycle", "s3:PutLifecycleConfiguration", field="lifecycle")
async def delete(call: Call) -> Answer:
    await keep(call, KIND, None)
    await keep(call, "lifecycle", None)
    return Answer(204)


def read(root: Node) -> list[Rule]:
    """The rules of a document; one without an id gets one. Raises `MalformedXML`, `InvalidArgument`, `InvalidRequest`."""
    nodes = root.all("Rule")
    if not 0 < len(nodes) <= RULES_MAX:
        raise S3Error("MalformedXML")
    rules = [_rule(node) for node in nodes]
    ids = [rule.id for rule in rules]
    if len(set(ids)) != len(ids):
        raise S3Error("InvalidArgument", "Rule ID must be unique. Found same ID for more than one rule")
    return rules


def _rule(node: Node) -> Rule:
    id = node.get("ID")
    if not id:
        id = secrets.token_hex(12)
        node.children.insert(0, Node("ID", id))
    if len(id) > ID_LETTERS_MAX:
        raise S3Error("InvalidArgument", f"ID length should not exceed allowed limit of {ID_LETTERS_MAX}")
    if node.get("Status") not in ("Enabled", "Disabled"):
        raise S3Error("MalformedXML")
    prefix, tags, size_over, size_under = _filter(node)
    expiration, noncurrent = node.one("Expiration"), node.one("NoncurrentVersionExpiration")
    abort = node.one("AbortIncompleteMultipartUpload")
    transitions = tuple(_transition(one, "Days") for one in node.all("Transition"))
    noncurrent_transitions = tuple(
        _transition(one, "NoncurrentDays") for one in node.all("NoncurrentVersionTransition")
    )
    if expiration is None and noncurrent is None and abort is None and not transitions and not noncurrent_transitions:
        raise S3Error("InvalidRequest", "At least one action needs to be specified in a rule")
    if abort is not None and (tags or size_over is not None or size_under is not None):
        raise S3Error("InvalidRequest", "AbortIncompleteMultipartUpload cannot be specified with Tags or sizes")
    marker = expiration is not None and expiration.get("ExpiredObjectDeleteMarker").lower() == "true"
    if marker and tags:
        raise S3Error("InvalidRequest", "ExpiredObjectDeleteMarker cannot be specified with Tags")
    days, date_us = _when(expiration, "Days") if expiration is not None else (None, None)
    if expiration is not None and (days is not None) + (date_us is not None) + marker != 1:
        raise S3Error("MalformedXML")
    return Rule(
        id,
        node.get("Status") == "Enabled",
        prefix,
        tags,
        size_over,
        size_under,
        days,
        date_us,
        marker,
        _number(noncurrent, "NoncurrentDays", least=1, needed=True) if noncurrent is not None else None,
        (_number(noncurrent, "NewerNoncurrentVersions", least=1) or 0) if noncurrent is not None else 0,
        _number(abort, "DaysAfterInitiation", least=1, needed=True) if abort is not None else None,
        transitions,
        noncurrent_transitions,
    )


def _filter(node: Node) -> tuple[str, dict[str, str], int | None, int | None]:
    """(prefix, tags, larger than, smaller than)"""
    filters = node.one("Filter")
    if filters is None:
        return node.get("Prefix"), {}, None, None
    both = filters.one("And")
    if len(filters.children) > 1:
        raise S3Error("MalformedXML")
    inside = both or filters
    tags = {tag.get("Key"): tag.get("Value") for tag in inside.all("Tag")}
    if len(tags) != len(inside.all("Tag")):
        raise S3Error("InvalidRequest", "Duplicate Tag Keys are not allowed.")
    over = _number(inside, "ObjectSizeGreaterThan", least=0)
    under = _number(inside, "ObjectSizeLessThan", least=1)
    if over is not None and under is not None and over >= under:
        raise S3Error("InvalidRequest", "ObjectSizeLessThan has to be a value greater than ObjectSizeGreaterThan")
    return inside.get("Prefix"), tags, over, under


def _transition(node: Node, field: str) -> Transition:
    days, date_us = _when(node, field, least=0)
    storage_class = node.get("StorageClass")
    if storage_class not in STORAGE_CLASSES or (days is None) == (date_us is None):
        raise S3Error("MalformedXML")
    return Transition(storage_class, days, date_us, _number(node, "NewerNoncurrentVersions", least=1) or 0)


def _when(node: Node, field: str, least: int = 1) -> tuple[int | None, int | None]:
    """(days, microseconds of a date), of which one is given at most."""
    text = node.get("Date")
    if not text:
        return _number(node, field, least=least), None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise S3Error("MalformedXML") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment.astimezone(UTC).timetuple()[3:6] != (0, 0, 0):
        raise S3Error("InvalidArgument", "'Date' must be at midnight GMT")
    return _number(node, field, least=least), int(moment.timestamp()) * 1_000_000


def _number(node: Node, name: str, *, least: int, needed: bool = False) -> int | None:
    text = node.get(name)
    if not text:
        if needed:
            raise S3Error("MalformedXML")
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise S3Error("MalformedXML")
    if int(text) < least:
        raise S3Error("InvalidArgument", f"'{name}' for the action must be a positive integer")
    return int(text)
