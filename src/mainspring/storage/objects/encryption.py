"""Encryption at rest: AES-256-GCM in packages of 64 KiB, so that a range can be read and every byte is authenticated.

Each object has a data key of its own; it is kept wrapped (AES-GCM as well) under a named key, or under the key that the
customer sends with every request and that is never kept. A body, or a part of one, is a unit: its packages are sealed under
a key derived from the data key and the unit's random salt, with their number as nonce, so that no nonce is used twice even
where a part is uploaded again. How long a unit is stands in the metadata, so that none can be cut short unseen.
"""

import hmac
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from mainspring.storage.objects.errors import InternalError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PACKAGE = 64 << 10
TAG = 16
SALT = 16
KEY = 32
AES256, KMS, CUSTOMER = "AES256", "aws:kms", "customer"

RandomBytes = Callable[[int], bytes]


class Unit(msgspec.Struct, frozen=True, array_like=True):
    """A body or a part that was sealed in one go: its salt, and its size before."""

    salt: bytes
    size: int

    @property
    def stored(self) -> int:
        return stored_size(self.size)


class Sealer:
    """Seals one unit, in calls of whole packages but for the last."""

    def __init__(self, data_key: bytes, salt: bytes) -> None:
        self.salt = salt
        self._cipher = aes_gcm(_unit_key(data_key, salt))
        self._package = 0

    def seal(self, plain: bytes) -> bytes:
        sealed = []
        for at in range(0, len(plain), PACKAGE):
            sealed.append(self._cipher.encrypt(_nonce(self._package), plain[at : at + PACKAGE], None))
            self._package += 1
        return b"".join(sealed)


def open_packages(data_key: bytes, unit: Unit, first: int, sealed: bytes | memoryview) -> bytes:
    """The plain bytes of whole packages from number `first` on. Raises `InternalError` where they are not authentic."""
    from cryptography.exceptions import InvalidTag

    cipher = aes_gcm(_unit_key(data_key, unit.salt))
    plain = []
    view = memoryview(sealed)
    try:
        for number, at in enumerate(range(0, len(view), PACKAGE + TAG), first):
            plain.append(cipher.decrypt(_nonce(number), view[at : at + PACKAGE + TAG], None))
    except InvalidTag:
        raise InternalError("a sealed package is not authentic") from None
    return b"".join(plain)


def aes_gcm(key: bytes) -> "AESGCM":
    """The cipher with this key. Its library takes 20 ms and 7 MiB, which most stores never need."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def stored_size(plain_bytes: int) -> int:
    """What a unit takes once sealed."""
    return plain_bytes + TAG * -(-plain_bytes // PACKAGE)


def _unit_key(data_key: bytes, salt: bytes) -> bytes:
    return hmac.digest(data_key, salt, sha256)


def _nonce(package: int) -> bytes:
    return package.to_bytes(12)
