"""A bucket as the door needs it for every request: its row and its settings, compiled, and remembered for half a second.

The settings are documents that the engine keeps by kind; the door gives them their meaning here: policy, lists, ownership,
public access, CORS, encryption. What is changed through this node is read again at once, what another changed within 0.5 s.
"""

import msgspec

from mainspring.core.clock import Clock
from mainspring.storage.objects.model import Bucket, checked_bucket_name
from mainspring.storage.objects.s3 import acl as acls
from mainspring.storage.objects.s3.acl import Acl
from mainspring.storage.objects.s3.policy import Policy, compile_policy
from mainspring.storage.objects.service import Objects

REMEMBERED_NS = 500_000_000
REMEMBERED_MAX = 10_000
ENFORCED = "BucketOwnerEnforced"


class PublicAccessBlock(msgspec.Struct, frozen=True):
    block_acls: bool = False
    ignore_acls: bool = False
    block_policy: bool = False
    restrict: bool = False


class BucketView(msgspec.Struct, frozen=True):
    """`documents` are the settings as they are kept, by kind. Without a list of its own a bucket is its owner's alone."""

    bucket: Bucket
    documents: dict[str, bytes]
    policy: Policy | None
    acl: Acl
    ownership: str
    block: PublicAccessBlock
    asks_tags: bool = False
    """Whether the policy wants to know the tags of the object that is asked for."""

    @property
    def name(self) -> str:
        return self.bucket.name

    @property
    def owner(self) -> str:
        return self.bucket.owner

    @property
    def arn(self) -> str:
        return f"arn:aws:s3:::{self.bucket.name}"

    @property
    def enforced(self) -> bool:
        """Whether access lists are disabled, and everything belongs to the bucket's owner."""
        return self.ownership == ENFORCED


class Buckets:
    """Views by name."""

    def __init__(self, objects: Objects, clock: Clock) -> None:
        self._objects = objects
        self._clock = clock
        self._views: dict[str, tuple[BucketView, int]] = {}

    def remembered(self, name: str) -> BucketView | None:
        found = self._views.get(name)
        return found[0] if found is not None and self._clock.mono_ns() < found[1] else None

    async def view(self, name: str) -> BucketView:
        """Raises `NoSuchBucket`, `InvalidBucketName` for a name that no bucket can have."""
        if (known := self.remembered(name)) is not None:
            return known
        checked_bucket_name(name)
        until_ns = self._clock.mono_ns() + REMEMBERED_NS
        bucket, documents = await self._objects.bucket_with_settings(name)
        made = _compile(bucket, documents)
        if len(self._views) >= REMEMBERED_MAX:
            self._views.clear()
        self._views[name] = made, until_ns
        return made

    def forget(self, name: str) -> None:
        self._views.pop(name, None)


def _compile(bucket: Bucket, documents: dict[str, bytes]) -> BucketView:
    policy, listed, block = documents.get("policy"), documents.get("acl"), documents.get("publicAccessBlock")
    return BucketView(
        bucket,
        documents,
        compile_policy(policy, bucket.name) if policy else None,
        acls.decode(listed) if listed else acls.private(bucket.owner),
        documents.get("ownershipControls", b"").decode() or ENFORCED,
        msgspec.json.decode(block, type=PublicAccessBlock) if block else PublicAccessBlock(),
        policy is not None and b"existingobjecttag" in policy.lower(),
    )
