"""SCRAM (RFC 5802, with SHA-512 as in draft-melnikov-scram-sha-512), the server's side, sans I/O.

A server keeps of a password only a salt, the number of iterations and two keys; a client proves that it knows the password
without sending it, and the server proves that it knew it too.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable

import msgspec

ITERATIONS_MIN = 4096
ITERATIONS_MAX = 16_384
HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
NUMBERS = {1: "SCRAM-SHA-256", 2: "SCRAM-SHA-512"}


class ScramFailed(Exception):
    """The login is refused; the text is what the client may be told."""


class Credential(msgspec.Struct, frozen=True):
    """What is kept of one user's password for one mechanism."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes


def credential(mechanism: str, salted_password: bytes, salt: bytes, iterations: int) -> Credential:
    """From the salted password, which is PBKDF2 of the password (section 3, `SaltedPassword`)."""
    name = HASHES[mechanism]
    client_key = hmac.digest(salted_password, b"Client Key", name)
    server_key = hmac.digest(salted_password, b"Server Key", name)
    return Credential(salt, iterations, hashlib.new(name, client_key).digest(), server_key)


def salted(mechanism: str, password: str, salt: bytes, iterations: int) -> bytes:
    """Costs `iterations` rounds of PBKDF2: some milliseconds, which belong in a thread."""
    return hashlib.pbkdf2_hmac(HASHES[mechanism], password.encode(), salt, iterations)


def is_password(mechanism: str, password: str, kept: Credential) -> bool:
    """Whether `password` is the one that `kept` was made from."""
    again = credential(mechanism, salted(mechanism, password, kept.salt, kept.iterations), kept.salt, kept.iterations)
    return hmac.compare_digest(again.stored_key, kept.stored_key)


class Exchange:
    """One login: `first` answers the client's first message, `final` its proof. `find` gives a user's credential or None;
    `nonce` is the server's part, printable and without a comma."""

    def __init__(self, mechanism: str, find: Callable[[str], Credential | None], nonce: str | None = None) -> None:
        self._name = HASHES[mechanism]
        self._find = find
        self._own_nonce = nonce or secrets.token_urlsafe(24)
        self._kept: Credential | None = None
        self._messages = b""
        self._nonce = ""
        self._binding = ""
        self.user = ""

    def first(self, message: bytes) -> bytes:
        """`gs2-header n=user,r=nonce` to `r=nonce,s=salt,i=iterations`. Raises `ScramFailed`."""
        text = _text(message)
        flag, _, rest = text.partition(",")
        authzid, _, bare = rest.partition(",")
        if flag not in ("n", "y") or not bare:
            raise ScramFailed("channel binding is not supported")
        attributes = _attributes(bare)
        if [*attributes][:2] != ["n", "r"] or not attributes["r"]:
            raise ScramFailed("the first message is not n=…,r=…")
        self.user = attributes["n"].replace("=2C", ",").replace("=3D", "=")
        if authzid.removeprefix("a=") not in ("", self.user):
            raise ScramFailed("the authorization id is not the user's name")
        self._kept = self._find(self.user)
        if self._kept is None:
            raise ScramFailed("Authentication failed during authentication due to invalid credentials")
        self._nonce = attributes["r"] + self._own_nonce
        self._binding = base64.b64encode(f"{flag},{authzid},".encode()).decode()
        salt = base64.b64encode(self._kept.salt).decode()
        answer = f"r={self._nonce},s={salt},i={self._kept.iterations}".encode()
        self._messages = bare.encode() + b"," + answer
        return answer

    def final(self, message: bytes) -> bytes:
        """`c=…,r=nonce,p=proof` to `v=signature`. Raises `ScramFailed`."""
        assert self._kept is not None
        text = _text(message)
        attributes = _attributes(text)
        without_proof = text.rpartition(",p=")[0]
        if attributes.get("c") != self._binding or attributes.get("r") != self._nonce or not without_proof:
            raise ScramFailed("the final message does not belong to the first")
        signed = self._messages + b"," + without_proof.encode()
        try:
            proof = base64.b64decode(attributes.get("p", ""), validate=True)
        except binascii.Error:
            raise ScramFailed("the proof is not base64") from None
        signature = hmac.digest(self._kept.stored_key, signed, self._name)
        client_key = bytes(one ^ other for one, other in zip(proof, signature, strict=False))
        if len(proof) != len(signature) or not hmac.compare_digest(
            hashlib.new(self._name, client_key).digest(), self._kept.stored_key
        ):
            raise ScramFailed("Authentication failed during authentication due to invalid credentials")
        return b"v=" + base64.b64encode(hmac.digest(self._kept.server_key, signed, self._name))


def _text(message: bytes) -> str:
    try:
        return message.decode()
    except UnicodeDecodeError:
        raise ScramFailed("a message is not UTF-8") from None


def _attributes(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or len(name) != 1 or name in found:
            raise ScramFailed("a message is not a list of attributes")
        found[name] = value
    return found
