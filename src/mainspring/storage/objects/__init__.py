"""The object store: buckets of named bytes over erasure-coded directories. `Objects` is what other code calls.

The face is light: its names are loaded when they are first used.
"""

from typing import TYPE_CHECKING

from mainspring.core.faces import lazily

if TYPE_CHECKING:
    from mainspring.storage.objects.blobs import ObjectBlobs
    from mainspring.storage.objects.cloud import CloudBlobs
    from mainspring.storage.objects.conditions import ReadIf, WriteIf
    from mainspring.storage.objects.errors import (
        BucketAlreadyOwnedByYou,
        NoSuchBucket,
        NoSuchKey,
        ObjectsError,
        PreconditionFailed,
    )
    from mainspring.storage.objects.model import Bucket, Checksum, Lock, LockDefault, Object, Versioning
    from mainspring.storage.objects.moving import Moved, total_bytes
    from mainspring.storage.objects.moving import move as move_blobs
    from mainspring.storage.objects.proof import Report, is_genuine, prove
    from mainspring.storage.objects.service import Objects
    from mainspring.storage.objects.settings import ObjectsSettings

__all__ = [
    "Bucket",
    "BucketAlreadyOwnedByYou",
    "Checksum",
    "CloudBlobs",
    "Lock",
    "LockDefault",
    "Moved",
    "NoSuchBucket",
    "NoSuchKey",
    "Object",
    "ObjectBlobs",
    "Objects",
    "ObjectsError",
    "ObjectsSettings",
    "PreconditionFailed",
    "ReadIf",
    "Report",
    "Versioning",
    "WriteIf",
    "is_genuine",
    "move_blobs",
    "prove",
    "total_bytes",
]

_HOMES = {
    "CloudBlobs": "cloud",
    "ObjectBlobs": "blobs",
    "Objects": "service",
    "ObjectsSettings": "settings",
    "move_blobs": "moving:move",
    **dict.fromkeys(("Moved", "total_bytes"), "moving"),
    **dict.fromkeys(("Report", "is_genuine", "prove"), "proof"),
    **dict.fromkeys(("ReadIf", "WriteIf"), "conditions"),
    **dict.fromkeys(
        ("BucketAlreadyOwnedByYou", "NoSuchBucket", "NoSuchKey", "ObjectsError", "PreconditionFailed"), "errors"
    ),
    **dict.fromkeys(("Bucket", "Checksum", "Lock", "LockDefault", "Object", "Versioning"), "model"),
}


__getattr__ = lazily(__name__, _HOMES)
