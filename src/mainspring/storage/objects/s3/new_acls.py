"""The access list that a new object gets from the headers of its request."""

from mainspring.storage.objects.s3 import acl as acls
from mainspring.storage.objects.s3.call import Call
from mainspring.storage.objects.s3.errors import S3Error

ALWAYS_RIGHT = (b"bucket-owner-full-control", b"private")
"""Where the bucket's owner owns everything, these say what is so anyway."""


def acl_of_new_object(call: Call, owner: str) -> bytes:
    """The list as it is kept; empty where it is the owner's alone. Raises `AccessControlListNotSupported`, `AccessDenied`."""
    view, headers = call.view, call.headers
    assert view is not None
    named = headers.get(b"x-amz-acl")
    if named is None and not any(header in headers for header in acls.HEADERS):
        return b""
    if view.enforced:
        if named in ALWAYS_RIGHT:
            return b""
        raise S3Error("AccessControlListNotSupported")
    listed = acls.in_headers(headers, owner, view.owner, call.door.identities.emails)
    if listed is None or listed == acls.private(owner):
        return b""
    if listed.public and view.block.block_acls:
        raise S3Error("AccessDenied", "Public access lists are blocked by the bucket's public access block")
    return acls.encode(listed)
