"""Named keys that wrap other keys, under one master key.

`Key` and the errors are light. `KeyStore`, which brings the database's language with it, is imported when it is first named.
"""

from typing import TYPE_CHECKING

from mainspring.core.faces import lazily
from mainspring.core.keys.model import (
    Key,
    KeyDisabled,
    KeyTaken,
    MasterKeyError,
    NotAuthentic,
    TooManyKeys,
    UnknownKey,
)

if TYPE_CHECKING:
    from mainspring.core.keys.service import KeyStore

__all__ = [
    "Key",
    "KeyDisabled",
    "KeyStore",
    "KeyTaken",
    "MasterKeyError",
    "NotAuthentic",
    "TooManyKeys",
    "UnknownKey",
]


__getattr__ = lazily(__name__, {"KeyStore": "service"})
