"""The object store: buckets of named bytes over erasure-coded directories. `Objects` is what other code calls.

The face is light: its names are loaded when they are first used.
"""

from typing import TYPE_CHECKING, Any

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
    "CloudBlobs": ("cloud", "CloudBlobs"),
    "ObjectBlobs": ("blobs", "ObjectBlobs"),
    "Objects": ("service", "Objects"),
    "ObjectsSettings": ("settings", "ObjectsSettings"),
    "Moved": ("moving", "Moved"),
    "move_blobs": ("moving", "move"),
    "total_bytes": ("moving", "total_bytes"),
    **{name: ("proof", name) for name in ("Report", "is_genuine", "prove")},
    **{name: ("conditions", name) for name in ("ReadIf", "WriteIf")},
    **{
        name: ("errors", name)
        for name in ("BucketAlreadyOwnedByYou", "NoSuchBucket", "NoSuchKey", "ObjectsError", "PreconditionFailed")
    },
    **{name: ("model", name) for name in ("Bucket", "Checksum", "Lock", "LockDefault", "Object", "Versioning")},
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{home[0]}"), home[1])
