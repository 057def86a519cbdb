"""Who holds the keys: a data key of each object is wrapped under a named key of core's, or under the customer's own.

Named keys never leave core's key store: a data key goes there to be wrapped, bound to its context, and comes back sealed. For
whoever asks for encryption but names no key there is one of the store's own, made at its first use. The key of a customer
(SSE-C) comes with every request and is never kept: only its MD5 is.
"""

import hashlib
from base64 import b64encode
from collections.abc import Callable

import msgspec

from mainspring.core.keys import KeyDisabled as Disabled
from mainspring.core.keys import KeyStore, NotAuthentic
from mainspring.core.keys import UnknownKey as Unknown
from mainspring.storage.objects.encryption import AES256, CUSTOMER, KEY, KMS, SALT, Sealer, aes_gcm
from mainspring.storage.objects.errors import (
    AccessDenied,
    InternalError,
    InvalidArgument,
    InvalidRequest,
    KeyDisabled,
    UnknownKey,
)
from mainspring.storage.objects.model import Sealed

DEFAULT_KEY = "mainspring-objects"
_NONCE = 12


class Encryption(msgspec.Struct, frozen=True):
    """How a body is to be encrypted: `mode` AES256, `aws:kms` (with a `key_id`) or `customer` (with a `key` of 32 bytes).
    `context` is what an `aws:kms` data key is bound to: it opens with no other."""

    mode: str
    key_id: str = ""
    key: bytes = b""
    context: str = ""


class Keys:
    """Data keys, sealed and opened. Without a key store only customers' own keys are of use."""

    def __init__(self, store: KeyStore | None, random_bytes: Callable[[int], bytes]) -> None:
        self._store = store
        self._random = random_bytes

    async def seal(self, wish: Encryption) -> tuple[Sealed, bytes]:
        """A fresh data key, wrapped and plain. Raises `InvalidArgument` for a key that is none, `UnknownKey`,
        `KeyDisabled`."""
        data_key = self._random(KEY)
        if wish.mode == CUSTOMER:
            if len(wish.key) != KEY:
                raise InvalidArgument("The secret key was invalid for the specified algorithm.")
            return Sealed(CUSTOMER, md5_of(wish.key), self._wrap(wish.key, data_key)), data_key
        if wish.mode not in (AES256, KMS):
            raise InvalidArgument("The encryption method specified is not supported")
        store = self._named_keys()
        key_id = name_of(wish.key_id)
        if key_id == DEFAULT_KEY:
            await store.ensure(key_id)
        try:
            wrapped = await store.wrap(key_id, data_key, wish.context.encode())
        except Unknown:
            raise UnknownKey(f"Key '{key_id[:128]}' does not exist") from None
        except Disabled:
            raise KeyDisabled(f"{key_id} is disabled.") from None
        return Sealed(wish.mode, key_id, wrapped, context=wish.context), data_key

    async def open(self, sealed: Sealed, customer_key: bytes | None) -> bytes:
        """The data key. Raises `InvalidRequest` without the customer's key where it is needed, `AccessDenied` for another,
        `KeyDisabled`."""
        if sealed.mode == CUSTOMER:
            if not customer_key:
                raise InvalidRequest(
                    "The object was stored using a form of Server Side Encryption. The correct parameters must be "
                    "provided to retrieve the object."
                )
            if md5_of(customer_key) != sealed.key_id:
                raise AccessDenied("The provided customer key is not the one that the object was stored with.")
            return _unwrap(customer_key, sealed.wrapped)
        try:
            return await self._named_keys().unwrap(sealed.key_id, sealed.wrapped, sealed.context.encode())
        except Unknown:
            raise UnknownKey(f"Key '{sealed.key_id}' does not exist") from None
        except Disabled:
            raise KeyDisabled(f"{sealed.key_id} is disabled.") from None
        except NotAuthentic:
            raise InternalError("a data key cannot be unwrapped") from None

    def sealer(self, data_key: bytes) -> Sealer:
        """A sealer for one body or part, with a salt of its own."""
        return Sealer(data_key, self._random(SALT))

    def _named_keys(self) -> KeyStore:
        if self._store is None:
            raise InvalidRequest("This object store was given no key store")
        return self._store

    def _wrap(self, key: bytes, data_key: bytes) -> bytes:
        nonce = self._random(_NONCE)
        return nonce + aes_gcm(key).encrypt(nonce, data_key, None)


def name_of(key_id: str) -> str:
    """The name of a key in any of the forms that AWS has for one: an id, `alias/NAME`, or the ARN of either. The store's
    own, which AWS calls `alias/aws/s3`, where none is named."""
    name = key_id
    if name.startswith("arn:"):
        name = name.split(":", 5)[-1].removeprefix("key/")
    name = name.removeprefix("alias/")
    return DEFAULT_KEY if name in ("", "aws/s3") else name


def md5_of(key: bytes) -> str:
    """The MD5 of a customer's key as S3 headers carry it."""
    return b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode()


def _unwrap(key: bytes, wrapped: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        return aes_gcm(key).decrypt(wrapped[:_NONCE], wrapped[_NONCE:], None)
    except InvalidTag:
        raise InternalError("a data key cannot be unwrapped") from None
