"""What a reader or a sender of sealed pastes does on their own machine: the oracle that the server never needs."""

import json
import zlib
from base64 import b64decode, b64encode
from hmac import digest as hmac
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from mainspring.social.links.paste_model import VERIFIER_INFO

IV, SALT = bytes(range(16)), bytes(range(8))
ITERATIONS = 10_001
"""As few as the envelope allows: tests seal often."""

JSON_HEADERS = {"x-requested-with": "JSONHttpRequest"}
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def base58(key: bytes) -> str:
    number, letters = int.from_bytes(key, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        letters = BASE58[digit] + letters
    return "1" * (len(key) - len(key.lstrip(b"\0"))) + letters


def cipher() -> list[Any]:
    return [b64encode(IV).decode(), b64encode(SALT).decode(), ITERATIONS, 256, 128, "aes", "gcm", "zlib"]


def adata(*, burn: int = 0, discussion: int = 0, formatter: str = "plaintext") -> list[Any]:
    return [cipher(), formatter, discussion, burn]


def encrypted(plain: bytes, authenticated: Any, key: bytes, password: str = "") -> str:
    """Base64 of the cipher text of bytes that are compressed already."""
    aad = json.dumps(authenticated, separators=(",", ":")).encode()
    return b64encode(AESGCM(_derived(key, password)).encrypt(IV, plain, aad)).decode()


def deflated(plain: bytes) -> bytes:
    squeeze = zlib.compressobj(9, wbits=-15)
    return squeeze.compress(plain) + squeeze.flush()


def seal(message: dict[str, Any], authenticated: Any, key: bytes, password: str = "") -> str:
    return encrypted(deflated(json.dumps(message).encode()), authenticated, key, password)


def unseal(ct: str, authenticated: Any, key: bytes, password: str = "") -> Any:
    aad = json.dumps(authenticated, separators=(",", ":")).encode()
    plain = AESGCM(_derived(key, password)).decrypt(IV, b64decode(ct), aad)
    return json.loads(zlib.decompress(plain, -15))


def envelope(text: str, key: bytes, *, expire: str = "1day", password: str = "", **flags: Any) -> dict[str, Any]:
    """What a PrivateBin client posts."""
    authenticated = adata(**flags)
    ct = seal({"paste": text}, authenticated, key, password)
    return {"v": 2, "adata": authenticated, "ct": ct, "meta": {"expire": expire}}


def verifier(key: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=VERIFIER_INFO).derive(key)


def answer(key: bytes, id: str, nonce: str) -> str:
    return hmac(verifier(key), f"reveal\n{id}\n{nonce}".encode(), "sha256").hex()


def _derived(key: bytes, password: str) -> bytes:
    return PBKDF2HMAC(algorithm=SHA256(), length=32, salt=SALT, iterations=ITERATIONS).derive(key + password.encode())
