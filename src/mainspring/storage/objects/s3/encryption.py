"""Headers of encryption at rest: what a request asks for, and what an answer says of an object that is sealed.

A customer's own key (SSE-C) comes with every request, with its MD5; a bucket may have a default for whoever asks for nothing.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from hashlib import md5

import msgspec

from mainspring.storage.objects.encryption import AES256, CUSTOMER, KMS
from mainspring.storage.objects.keys import Encryption, name_of
from mainspring.storage.objects.model import Object, Sealed
from mainspring.storage.objects.s3.answers import Header
from mainspring.storage.objects.s3.call import Call
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.xml import parse

MODE = b"x-amz-server-side-encryption"
KEY_ID = b"x-amz-server-side-encryption-aws-kms-key-id"
CONTEXT = b"x-amz-server-side-encryption-context"
_CUSTOMER = b"x-amz-server-side-encryption-customer-"
_SOURCE = b"x-amz-copy-source-server-side-encryption-customer-"
CONTEXT_BYTES_MAX = 8 << 10


def asked(call: Call) -> Encryption | None:
    """How a new object shall be sealed: by the request, else by the bucket's default. Raises `InvalidArgument`,
    `InvalidRequest`, `InvalidEncryptionAlgorithmError`."""
    key = customer_key(call)
    mode = call.header(MODE)
    if key is not None:
        if mode is not None:
            raise S3Error(
                "InvalidArgument",
                "Server Side Encryption with Customer provided key is incompatible with the encryption method specified",
            )
        return Encryption(CUSTOMER, key=key)
    if mode is None:
        if KEY_ID in call.headers:
            raise S3Error("InvalidArgument", "x-amz-server-side-encryption must be aws:kms where a key id is given")
        return default_of(call)
    if mode == AES256:
        if KEY_ID in call.headers:
            raise S3Error("InvalidArgument", "A key id is not applicable with AES256")
        return Encryption(AES256)
    if mode not in (KMS, "aws:kms:dsse"):
        raise S3Error("InvalidEncryptionAlgorithmError", ArgumentName=MODE.decode(), ArgumentValue=mode[:60])
    return Encryption(KMS, call.header(KEY_ID) or "", context=_context(call))


def default_of(call: Call) -> Encryption | None:
    """The bucket's default."""
    assert call.view is not None
    document = call.view.documents.get("encryption")
    if not document:
        return None
    root = parse(b"<R>" + document + b"</R>", "R")
    rule = root.one("Rule")
    default = rule.one("ApplyServerSideEncryptionByDefault") if rule is not None else None
    if default is None:
        return None
    if default.get("SSEAlgorithm") == AES256:
        return Encryption(AES256)
    return Encryption(KMS, default.get("KMSMasterKeyID"))


def customer_key(call: Call) -> bytes | None:
    """The customer's key that a request brings. Raises `InvalidArgument` where it is not whole."""
    return _key(call, _CUSTOMER)


def source_key(call: Call) -> bytes | None:
    """The customer's key that opens the source of a copy."""
    return _key(call, _SOURCE)


def _key(call: Call, prefix: bytes) -> bytes | None:
    algorithm = call.header(prefix + b"algorithm")
    text, digest = call.header(prefix + b"key"), call.header(prefix + b"key-md5")
    if algorithm is None and text is None and digest is None:
        return None
    if algorithm != AES256:
        raise (
            S3Error("InvalidEncryptionAlgorithmError")
            if algorithm
            else _wrong("must provide a valid encryption algorithm")
        )
    if text is None:
        raise _wrong("must provide an appropriate secret key")
    if digest is None:
        raise _wrong("must provide the client calculated MD5 of the secret key")
    try:
        key = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        key = b""
    if len(key) != 32:
        raise S3Error("InvalidArgument", "The secret key was invalid for the specified algorithm.")
    if b64encode(md5(key, usedforsecurity=False).digest()).decode() != digest:
        raise S3Error("InvalidArgument", "The calculated MD5 hash of the key did not match the hash that was provided.")
    return key


def _wrong(what: str) -> S3Error:
    return S3Error("InvalidArgument", f"Requests specifying Server Side Encryption with Customer provided keys {what}.")


def _context(call: Call) -> str:
    text = call.header(CONTEXT) or ""
    if not text:
        return ""
    try:
        read = msgspec.json.decode(b64decode(text, validate=True), type=dict[str, str])
    except (Base64Error, ValueError, msgspec.MsgspecError):
        raise S3Error(
            "InvalidArgument", "The header 'x-amz-server-side-encryption-context' shall be Base64-encoded UTF-8 JSON"
        ) from None
    if len(text) > CONTEXT_BYTES_MAX or not isinstance(read, dict):
        raise S3Error("InvalidArgument", "The encryption context is too large")
    return text


def must_open(call: Call, object: Object) -> None:
    """Raises where the request does not bring the key that an object's description may be told to."""
    assert object.sealed is not None
    key = customer_key(call)
    if object.sealed.mode == CUSTOMER:
        if key is None:
            raise S3Error(
                "InvalidRequest",
                "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to "
                "retrieve the object.",
            )
        if b64encode(md5(key, usedforsecurity=False).digest()).decode() != object.sealed.key_id:
            raise S3Error("AccessDenied")
    elif key is not None:
        raise S3Error("InvalidRequest", "The encryption parameters are not applicable to this object.")


def opening_key(call: Call) -> bytes | None:
    """The key with which a read opens, None where the request brings none."""
    return customer_key(call)


def of_sealed(sealed: Sealed | None) -> list[Header]:
    """What an answer says of how an object or an upload is sealed."""
    if sealed is None:
        return []
    if sealed.mode == CUSTOMER:
        return [(_CUSTOMER + b"algorithm", AES256.encode()), (_CUSTOMER + b"key-md5", sealed.key_id.encode())]
    headers: list[Header] = [(MODE, sealed.mode.encode())]
    if sealed.mode == KMS:
        headers.append((KEY_ID, sealed.key_id.encode()))
        if sealed.context:
            headers.append((CONTEXT, sealed.context.encode()))
    return headers


def of_wish(encryption: Encryption | None) -> Iterable[Header]:
    """What the answer says whose request asked for `encryption`."""
    if encryption is None:
        return []
    digest = (
        b64encode(md5(encryption.key, usedforsecurity=False).digest()).decode() if encryption.mode == CUSTOMER else ""
    )
    return of_sealed(Sealed(encryption.mode, digest or name_of(encryption.key_id), b"", context=encryption.context))
