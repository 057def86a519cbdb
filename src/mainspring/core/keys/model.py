"""Named keys and the rules about them: pure, and the same wherever they are kept.

A key is a name with versions of its material, of which the newest seals and all open. It is never given out: whoever uses
one hands over what is to be wrapped. A disabled key does neither until it is enabled again; none is ever removed, since
what it sealed could never be opened again.
"""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from hashlib import sha256
from typing import Literal

import msgspec

from mainspring.core.problems import Conflict, Forbidden, Invalid, NotFound, Problem

KEY_BYTES = 32
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
KEYS_MAX = 10_000
VERSIONS_MAX = 1_000

State = Literal["enabled", "disabled"]


class UnknownKey(NotFound):
    type, title = "keys/unknown", "There is no key of this name"


class KeyDisabled(Forbidden):
    type, title = "keys/disabled", "This key is disabled"


class KeyTaken(Conflict):
    type, title = "keys/taken", "There is a key of this name"


class TooManyKeys(Conflict):
    type, title = "keys/too-many", "There are as many keys, or versions of this one, as there may be"


class NotAuthentic(Problem):
    """What is to be unwrapped was not wrapped under this key and context, or has been changed."""

    status, type, title = 400, "keys/not-authentic", "This was not wrapped under that key"


class MasterKeyError(Problem):
    """The configured master key is no key, or not the one under which what is stored was wrapped."""

    status, type, title = 500, "keys/master", "The master key does not open what is stored"


class Key(msgspec.Struct, frozen=True):
    """One key, without its material; `versions` counts how often it was made or rotated, `rotated_us` when the last time."""

    name: str
    state: State
    versions: int
    created_us: int
    rotated_us: int


def checked_name(name: str) -> str:
    """Gives `name` back. Raises `Invalid`."""
    if not re.fullmatch(NAME, name):
        raise Invalid("A key's name has 1 to 128 letters, digits, and `_ . -`", pointer="/body/name")
    return name


def master_keys(text: str) -> list[bytes]:
    """The master keys that a setting names, each 32 bytes as base64, separated by blanks: the first wraps, all open.

    Raises `MasterKeyError`.
    """
    keys = []
    for word in text.split():
        try:
            key = b64decode(word, validate=True)
        except (Base64Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise MasterKeyError("master_key: each key is 32 bytes as base64, such as `openssl rand -base64 32` prints")
        keys.append(key)
    return keys


def fingerprint(master: bytes) -> str:
    """Which master key it is; tells nothing of the key."""
    return sha256(b"mainspring master key\0" + master).hexdigest()[:16]
