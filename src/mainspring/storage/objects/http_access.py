"""What all routes of the JSON API share: the API itself, and whether a caller may do to a bucket what S3 has an action for."""

from typing import Annotated

from msgspec import Meta

from mainspring.core.accounts.caller import Caller
from mainspring.core.http import Routes
from mainspring.core.problems import Forbidden
from mainspring.storage.objects.s3 import access
from mainspring.storage.objects.s3.buckets import BucketView
from mainspring.storage.objects.s3.conditions import Context
from mainspring.storage.objects.s3.door import Door
from mainspring.storage.objects.s3.identity import Identity

routes = Routes("objects")

Name = Annotated[str, Meta(min_length=1, max_length=63)]


async def may(door: Door, caller: Caller, bucket: str, action: str, key: str = "") -> tuple[Identity, BucketView]:
    """Raises `Forbidden`, `NoSuchBucket`."""
    identity, view = door.identities.of_caller(caller), await door.buckets.view(bucket)
    verdict = access.decide(identity, action, view, key, Context(lambda _key: None))
    if not verdict.allowed:
        raise Forbidden(f"{action} is not allowed here ({verdict.by})")
    return identity, view
