"""Who holds the keys: a data key of each object is wrapped under a master key of the store, or under the customer's own.

Master keys have ids and live in the metadata: whoever has both the database and the disks can read. What this protects is a
disk that leaves the house. The key of a customer (SSE-C) comes with every request and is never kept: only its MD5 is.
"""

import hashlib
from base64 import b64encode
from collections.abc import Callable

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mainspring.core.ports import Connection, Database
from mainspring.storage.objects import references
from mainspring.storage.objects.encryption import AES256, CUSTOMER, KEY, KMS, SALT, Sealer
from mainspring.storage.objects.errors import AccessDenied, InternalError, InvalidArgument, InvalidRequest
from mainspring.storage.objects.model import Sealed

DEFAULT_KEY = "mainspring-default"
_NONCE = 12


class Encryption(msgspec.Struct, frozen=True):
    """How a body is to be encrypted: `mode` AES256, `aws:kms` (with a `key_id`) or `customer` (with a `key` of 32 bytes)."""

    mode: str
    key_id: str = ""
    key: bytes = b""
    context: str = ""


class Keys:
    """Master keys by id, made at their first use and read from the metadata once."""

    def __init__(self, database: Database, random_bytes: Callable[[int], bytes]) -> None:
        self._database = database
        self._random = random_bytes
        self._known: dict[str, bytes] = {}

    async def seal(self, wish: Encryption) -> tuple[Sealed, bytes]:
        """A fresh data key, wrapped and plain. Raises `InvalidArgument` for a key that is none."""
        data_key = self._random(KEY)
        if wish.mode == CUSTOMER:
            if len(wish.key) != KEY:
                raise InvalidArgument("The secret key was invalid for the specified algorithm.")
            return Sealed(CUSTOMER, md5_of(wish.key), self._wrap(wish.key, data_key)), data_key
        if wish.mode not in (AES256, KMS):
            raise InvalidArgument("The encryption method specified is not supported")
        key_id = wish.key_id or DEFAULT_KEY
        master = await self._master(key_id)
        return Sealed(wish.mode, key_id, self._wrap(master, data_key), context=wish.context), data_key

    async def open(self, sealed: Sealed, customer_key: bytes | None) -> bytes:
        """The data key. Raises `InvalidRequest` without the customer's key where it is needed, `AccessDenied` for another."""
        if sealed.mode == CUSTOMER:
            if not customer_key:
                raise InvalidRequest(
                    "The object was stored using a form of Server Side Encryption. The correct parameters must be "
                    "provided to retrieve the object."
                )
            if md5_of(customer_key) != sealed.key_id:
                raise AccessDenied("The provided customer key is not the one that the object was stored with.")
            return _unwrap(customer_key, sealed.wrapped)
        return _unwrap(await self._master(sealed.key_id), sealed.wrapped)

    def sealer(self, data_key: bytes) -> Sealer:
        """A sealer for one body or part, with a salt of its own."""
        return Sealer(data_key, self._random(SALT))

    async def _master(self, key_id: str) -> bytes:
        if key_id not in self._known:
            name = f"master key {key_id}"
            self._known[key_id] = await self._database.write(_find_or_make, name, self._random(KEY))
        return self._known[key_id]

    def _wrap(self, key: bytes, data_key: bytes) -> bytes:
        nonce = self._random(_NONCE)
        return nonce + AESGCM(key).encrypt(nonce, data_key, None)


def md5_of(key: bytes) -> str:
    """The MD5 of a customer's key as S3 headers carry it."""
    return b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode()


def _unwrap(key: bytes, wrapped: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(wrapped[:_NONCE], wrapped[_NONCE:], None)
    except InvalidTag:
        raise InternalError("a data key cannot be unwrapped") from None


def _find_or_make(connection: Connection, name: str, fresh: bytes) -> bytes:
    found = references.read_state(connection, name)
    if found is None:
        references.write_state(connection, name, fresh)
    return fresh if found is None else found
