"""The object store: buckets of named bytes over erasure-coded directories. `Objects` is what other code calls.

The face is light: its names are loaded when they are first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mainspring.storage.objects.model import Bucket, Checksum, Lock, LockDefault, Object
    from mainspring.storage.objects.service import Objects
    from mainspring.storage.objects.settings import ObjectsSettings

__all__ = ["Bucket", "Checksum", "Lock", "LockDefault", "Object", "Objects", "ObjectsSettings"]

_HOMES = {
    "Objects": "service",
    "ObjectsSettings": "settings",
    **dict.fromkeys(("Bucket", "Checksum", "Lock", "LockDefault", "Object"), "model"),
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
