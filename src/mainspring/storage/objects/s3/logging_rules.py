"""Where a bucket's access log goes: the target bucket, the prefix, and which of the two forms its keys have."""

from typing import TYPE_CHECKING

import msgspec

from mainspring.core.problems import Problem
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.xml import Node, parse

if TYPE_CHECKING:
    from mainspring.storage.objects.s3.call import Call

EVENT_TIME, DELIVERY_TIME = "EventTime", "DeliveryTime"


class Target(msgspec.Struct, frozen=True):
    """`partitioned` is empty for simple keys, else which time the folders of a partitioned key are of."""

    bucket: str
    prefix: str = ""
    partitioned: str = ""


def check(root: Node) -> None:
    read(root)


def of_document(inner: bytes) -> Target | None:
    """The meaning of a document as it is kept."""
    return read(parse(b"<BucketLoggingStatus>" + inner + b"</BucketLoggingStatus>", "BucketLoggingStatus"))


def read(root: Node) -> Target | None:
    """None where logging is off. Raises `MalformedXML`."""
    enabled = root.one("LoggingEnabled")
    if enabled is None:
        return None
    if not enabled.get("TargetBucket"):
        raise S3Error("MalformedXML")
    form = enabled.one("TargetObjectKeyFormat") or Node("TargetObjectKeyFormat")
    partitioned = form.one("PartitionedPrefix")
    source = "" if partitioned is None else partitioned.get("PartitionDateSource") or DELIVERY_TIME
    if partitioned is not None and (source not in (EVENT_TIME, DELIVERY_TIME) or form.one("SimplePrefix") is not None):
        raise S3Error("MalformedXML")
    return Target(enabled.get("TargetBucket"), enabled.get("TargetPrefix"), source)


async def must_exist(call: "Call", target: Target) -> None:
    """Raises `InvalidTargetBucketForLogging` where the target is missing or another's."""
    assert call.view is not None
    try:
        view = await call.door.buckets.view(target.bucket)
    except Problem:
        raise S3Error("InvalidTargetBucketForLogging", TargetBucket=target.bucket) from None
    if view.owner != call.view.owner:
        raise S3Error(
            "InvalidTargetBucketForLogging",
            "The owner for the bucket to be logged and the target bucket must be the same.",
        )
