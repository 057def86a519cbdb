"""Pastes: what one is, what may be asked of it, and who may read it. Pure rules, no I/O.

There are two kinds. A plain paste is text that the server can show. A sealed one is cipher text in PrivateBin's envelope
(version 2, https://github.com/PrivateBin/PrivateBin/wiki/Encryption-format): the key stands in the fragment of its address,
which no browser sends, and the server never decrypts or inflates anything.

A sealed paste may bring a verifier, HKDF-SHA256 of its key. Its body then leaves the server only for an answer to a fresh
nonce that shows knowledge of the key, and so whoever merely fetches the address (a preview, a scanner) never burns it.
"""

import binascii
import re
import unicodedata
import zlib
from base64 import b64decode, b64encode
from hashlib import sha256
from hmac import compare_digest
from hmac import digest as hmac
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mainspring.core.problems import Conflict, Forbidden, Invalid, NotFound, TooLarge

ID = re.compile(r"[0-9a-f]{16}")
FAR_US = (1 << 62) - 1
BURNS_MAX = 1_000
VERSIONS_MAX = 100
FILES_MAX = 10
COMMENTS_MAX = 500
COMMENT_BYTES_MAX = 64 << 10
COMMENTS_BYTES_MAX = 4 << 20
NONCE_US = 120_000_000
SAMPLE_BYTES = 64 << 10
VERIFIER_INFO = b"mainspring paste verifier 1"
"""The `info` of the HKDF (RFC 5869, without salt) that makes a verifier of 32 bytes from the key in the fragment."""

EXPIRES_S = {
    "5min": 300, "10min": 600, "1hour": 3_600, "1day": 86_400, "1week": 604_800,
    "1month": 2_592_000, "1year": 31_536_000, "never": 0,
}  # fmt: skip
Expire = Literal["5min", "10min", "1hour", "1day", "1week", "1month", "1year", "never"]
Format = Literal["plain", "code", "markdown"]
Visibility = Literal["public", "unlisted", "private"]

FORMATTERS: dict[str, Format] = {"plaintext": "plain", "syntaxhighlighting": "code", "markdown": "markdown"}
"""PrivateBin's names of the formats."""

Cipher: TypeAlias = tuple[
    Annotated[str, Meta(max_length=24)],  # initialisation vector, base64
    Annotated[str, Meta(max_length=14)],  # salt, base64
    Annotated[int, Meta(gt=10_000, le=100_000_000)],  # iterations of PBKDF2
    Literal[128, 192, 256],
    Literal[64, 96, 104, 112, 120, 128],
    Literal["aes"],
    Literal["ctr", "cbc", "gcm"],
    Literal["zlib", "none"],
]
Flag: TypeAlias = Literal[0, 1]
Adata: TypeAlias = tuple[Cipher, Literal["plaintext", "syntaxhighlighting", "markdown"], Flag, Flag]
"""What the envelope authenticates: cipher, formatter, whether comments are open, whether it burns after reading."""

Language = Annotated[str, Meta(max_length=40, pattern="^[A-Za-z0-9#+._-]*$")]
Title = Annotated[str, Meta(max_length=300)]
Password = Annotated[str, Meta(min_length=1, max_length=200)]
Burns = Annotated[int, Meta(ge=1, le=BURNS_MAX)]
Hex32 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An envelope: `ct` is the cipher text with its tag, base64; `verifier` 32 bytes of HKDF-SHA256, hexadecimal."""

    adata: Adata
    ct: str
    verifier: Hex32 | None = None


class NewPaste(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A paste to be made: a plain one from `body`, or a sealed one. It ends after `burn_after` reads, where given.

    Code without a `language` gets the one that it looks like.
    """

    body: str = ""
    sealed: Sealed | None = None
    title: Title = ""
    format: Format = "plain"
    language: Language = ""
    expire: Expire = "1day"
    burn_after: Burns | None = None
    password: Password | None = None
    visibility: Visibility = "unlisted"


class PasteEdit(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What to change; whatever is left out stays. A new `body` (or `sealed` one), format or language is a new version."""

    body: str | UnsetType = UNSET
    sealed: Sealed | UnsetType = UNSET
    title: Title | UnsetType = UNSET
    format: Format | UnsetType = UNSET
    language: Language | UnsetType = UNSET
    expire: Expire | UnsetType = UNSET
    visibility: Visibility | UnsetType = UNSET


class Proof(msgspec.Struct, forbid_unknown_fields=True):
    """What a reader shows: the paste's password, or `mac_of` a nonce under the verifier."""

    password: Annotated[str, Meta(max_length=200)] | None = None
    nonce: Annotated[str, Meta(max_length=200)] | None = None
    mac: Hex32 | None = None


class Paste(msgspec.Struct, frozen=True, kw_only=True):
    """A paste without its bodies. `number` orders pastes by creation; `password` is a hash; times are microseconds UTC."""

    id: str
    number: int
    owner: int | None = None
    title: str = ""
    visibility: Visibility = "unlisted"
    password: str | None = None
    sealed: bool = False
    verifier: bytes | None = None
    discussion: bool = False
    reads_left: int | None = None
    forked_from: str | None = None
    created_us: int = 0
    ends_us: int = FAR_US
    version: int = 1

    def alive(self, now_us: int) -> bool:
        return now_us < self.ends_us

    @property
    def open(self) -> bool:
        """Whether everybody who may see the paste may read it as often as they like: only such bodies answer a GET."""
        return self.reads_left is None and self.password is None and not self.sealed


class Version(msgspec.Struct, frozen=True):
    """A body that a paste has, or has had; `adata` is that of a sealed one."""

    number: int
    format: Format
    language: str
    adata: list[Any] | None
    size_bytes: int
    created_us: int


class Comment(msgspec.Struct, frozen=True):
    """A sealed comment in the discussion of a sealed paste."""

    id: str
    parent_id: str
    adata: list[Any]
    size_bytes: int
    created_us: int


class File(msgspec.Struct, frozen=True):
    """What is attached to a plain paste; `content_type` is whatever the sender claimed."""

    name: str
    content_type: str
    size_bytes: int


class UnknownPaste(NotFound):
    type, title = "links/unknown-paste", "There is no such paste, or not any more"


class MustReveal(Forbidden):
    type, title = "links/must-reveal", "This paste shows itself only to who asks for it: POST to its reveal address"


class WrongProof(Forbidden):
    type, title = "links/wrong-proof", "The password or the proof is missing or not right"


class WrongToken(Forbidden):
    type, title = "links/wrong-delete-token", "This is not the paste's delete token"


class NotEditable(Conflict):
    type, title = "links/not-editable", "This paste cannot be changed in this way"


class InvalidSeal(Invalid):
    type, title = "links/invalid-seal", "This is not a sealed paste"


def ends_us(expire: str, now_us: int) -> int:
    seconds = EXPIRES_S[expire]
    return now_us + seconds * 1_000_000 if seconds else FAR_US


def text_bytes(body: str, bytes_max: int) -> bytes:
    """The text as it is stored. Raises `Invalid` for NUL, and `TooLarge`."""
    try:
        encoded = body.encode()
    except UnicodeEncodeError:
        raise Invalid("It contains half of a surrogate pair", pointer="/body") from None
    if b"\0" in encoded:
        raise Invalid("A text does not contain NUL", pointer="/body")
    return within(encoded, bytes_max)


def within(body: bytes, bytes_max: int) -> bytes:
    """`body`, which has at most so many bytes. Raises `TooLarge`."""
    if len(body) > bytes_max:
        raise too_large(bytes_max)
    return body


def too_large(bytes_max: int) -> TooLarge:
    return TooLarge(f"A body of yours may have {bytes_max:,} bytes here", bytes_max=bytes_max)


def title_text(title: str) -> str:
    """The title as it is stored. Raises `Invalid` for control characters."""
    title = unicodedata.normalize("NFC", title.strip())
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in title):
        raise Invalid("A title does not contain control characters", pointer="/title")
    return title


def cipher_text(encoded: str, bytes_max: int) -> bytes:
    """The bytes of a sealed body. Raises `TooLarge`, and `InvalidSeal` for what is no base64, or can be no cipher text
    because it could be compressed (nothing is inflated to see that)."""
    if len(encoded) > (bytes_max + 2) // 3 * 4:
        raise too_large(bytes_max)
    body = within(_bytes(encoded, "ct"), bytes_max)
    sample = body[:SAMPLE_BYTES]
    deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    if not body or len(deflate.compress(sample) + deflate.flush()) < len(sample):
        raise InvalidSeal("The cipher text is not random enough to be one", pointer="/ct")
    return body


def check_cipher(cipher: Cipher) -> None:
    """Raises `InvalidSeal` where vector or salt is not base64."""
    if not _bytes(cipher[0], "adata") or not _bytes(cipher[1], "adata"):
        raise InvalidSeal("Vector and salt are not empty", pointer="/adata")


def _bytes(encoded: str, field: str) -> bytes:
    try:
        return b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidSeal(f"{field} is not base64", pointer=f"/{field}") from None


def base64_text(body: bytes) -> str:
    return b64encode(body).decode()


# Secrets that are never stored: they follow from the key of the deployment.


def delete_token(key: bytes, id: str) -> str:
    return hmac(key, b"delete\0" + id.encode(), sha256).hex()


def is_delete_token(key: bytes, id: str, token: str) -> bool:
    return compare_digest(delete_token(key, id).encode(), token.encode("utf-8", "replace"))


def new_nonce(key: bytes, id: str, random: bytes, now_us: int) -> str:
    """A challenge for one paste, good for two minutes; only its maker can make it."""
    head = f"{now_us + NONCE_US:x}.{random.hex()}"
    return f"{head}.{_nonce_tag(key, id, head)}"


def is_nonce(key: bytes, id: str, nonce: str, now_us: int) -> bool:
    """Whether `nonce` was made here for this paste and is still good. That it was not used before is the caller's to see."""
    head, _, tag = nonce.rpartition(".")
    if not compare_digest(_nonce_tag(key, id, head).encode(), tag.encode("utf-8", "replace")):
        return False
    return now_us < int(head.partition(".")[0], 16)


def _nonce_tag(key: bytes, id: str, head: str) -> str:
    return hmac(key, f"nonce\0{id}\0{head}".encode("utf-8", "replace"), sha256).hex()[:32]


def mac_of(verifier: bytes, id: str, nonce: str) -> str:
    """The right answer to a challenge: HMAC-SHA256 under the verifier of `reveal`, id and nonce, one a line."""
    return hmac(verifier, f"reveal\n{id}\n{nonce}".encode("utf-8", "replace"), sha256).hex()


def is_mac(verifier: bytes, id: str, nonce: str, mac: str) -> bool:
    return compare_digest(mac_of(verifier, id, nonce).encode(), mac.encode("utf-8", "replace"))
