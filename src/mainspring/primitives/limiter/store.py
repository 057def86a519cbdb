"""What a store is: somewhere that answers one `Ask` at a time, atomically, and can tell who has spent most."""

from hashlib import blake2b
from typing import Protocol

import msgspec

from mainspring.primitives.limiter.decide import Ask, Limit, Outcome
from mainspring.primitives.limiter.model import Rule, State

KEY_LETTERS_MAX = 128


class KeyState(msgspec.Struct, frozen=True):
    """How one key stands with one limit. `key` of one longer than 128 letters is its digest."""

    key: str
    used: int
    remaining: int
    reset_s: float

    @classmethod
    def of(cls, key: str | bytes, rule: Rule, state: State, now_ns: int) -> "KeyState":
        verdict = rule.hit(state, now_ns, 0)[1]
        shown = key if isinstance(key, str) else f"#{key.hex()}"
        return cls(shown, rule.most - verdict.remaining, verdict.remaining, verdict.reset_ns / 1e9)


class Store(Protocol):
    """Where states live. `name` is what decisions say of who decided."""

    name: str

    async def ask(self, ask: Ask) -> Outcome:
        """Answers atomically. Raises `StoreAway` where it cannot, in time or at all."""

    async def keys(self, bucket: str, limit: Limit, top: int, scanned_max: int) -> list[KeyState]:
        """The keys that have spent most of a limit, most first, of the first `scanned_max` that are found."""


def place(key: str) -> str | bytes:
    """Under what a key is kept in process: itself, or 128 bits of BLAKE2b where it is longer than 128 letters.

    Digests are bytes, which no caller can send, so that nobody can choose a key that is somebody else's digest.
    """
    return key if len(key) <= KEY_LETTERS_MAX else _digest(key)


def token(key: str) -> str:
    """Under what a key is kept on a server: itself, or `#` and its digest where it is long or no text for a database.

    A key that begins with `#` gets another one, so that no key can be chosen that is somebody else's digest.
    """
    if len(key) > KEY_LETTERS_MAX or "\x00" in key or not _is_text(key):
        return f"#{_digest(key).hex()}"
    return f"#{key}" if key.startswith("#") else key


def shown(token: str) -> str:
    """The key as people read it: a digest keeps its `#`."""
    return token[1:] if token.startswith("##") else token


def _is_text(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, as JSON can carry it
        return False
    return True


def _digest(key: str) -> bytes:
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
