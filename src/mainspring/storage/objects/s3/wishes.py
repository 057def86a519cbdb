"""What a request says of a new object besides its body, as the engine takes it."""

from mainspring.storage.objects.model import Checksum
from mainspring.storage.objects.s3 import access, encryption, headers
from mainspring.storage.objects.s3.buckets import BucketView
from mainspring.storage.objects.s3.call import Call
from mainspring.storage.objects.s3.new_acls import acl_of_new_object
from mainspring.storage.objects.s3.tagging import tags_in_header
from mainspring.storage.objects.staging import Wish


def wish_of(call: Call, checksum: Checksum | None, *, event: str = "ObjectCreated:Put") -> Wish:
    """Raises what a header that cannot be right raises, and `AccessDenied` for tags or locks that the caller may not set."""
    given = call.headers
    tags = tags_in_header(call.header(b"x-amz-tagging")) if b"x-amz-tagging" in given else None
    if tags:
        access.check(call, "s3:PutObjectTagging", call.key)
    lock = headers.lock_in(call)
    if lock is not None:
        if lock.mode is not None:
            access.check(call, "s3:PutObjectRetention", call.key)
        if lock.hold:
            access.check(call, "s3:PutObjectLegalHold", call.key)
    owner = owner_of_new(call)
    return Wish(
        headers.kept(given),
        headers.metadata(given),
        headers.write_if(call),
        checksum,
        call.header(b"content-md5"),
        tags,
        lock,
        headers.storage_class(call) if b"x-amz-storage-class" in given else "STANDARD",
        owner,
        acl_of_new_object(call, owner),
        encryption.asked(call),
        event,
    )


def owner_of_new(call: Call) -> str:
    """Whose a new object is: the bucket's owner's, unless the bucket lets writers keep what they write."""
    view = viewed(call)
    if view.enforced or call.identity.anonymous:
        return view.owner
    if view.ownership == "BucketOwnerPreferred" and call.headers.get(b"x-amz-acl") == b"bucket-owner-full-control":
        return view.owner
    return call.identity.id


def viewed(call: Call) -> BucketView:
    """The bucket of a call that has one: the door has looked."""
    assert call.view is not None
    return call.view
