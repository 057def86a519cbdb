"""Key pairs, for protocols whose clients sign their requests instead of sending a secret (AWS and what is like it).

A key pair is another face of an API token, and nothing more is stored for it: the access key is the token's id in letters, the
secret key is derived from the hash that is kept of the token. So it has the token's scopes, and ends with it. What a
verifier must know to check a signature is enough to make one, in every protocol of this kind: whoever can read the
database can sign. A pair that was found is remembered for 0.4 s, as callers are.
"""

import hmac
from base64 import b32decode, b32encode
from hashlib import sha256
from string import ascii_letters, digits

import msgspec

from mainspring.core.accounts.caller import Caller
from mainspring.core.accounts.model import Account, Token, narrowed
from mainspring.core.accounts.steps import store
from mainspring.core.clock import Clock
from mainspring.core.ports import Connection, Database

PREFIX = "AKIA"
SECRET_LETTERS = ascii_letters + digits
REMEMBERED_NS = 400_000_000
REMEMBERED_MAX = 10_000


class KeyPair(msgspec.Struct, frozen=True):
    """What a client signs with, and for whom. `owner`: its account may do everything."""

    access_key: str
    secret_key: str
    caller: Caller
    owner: bool = False


class KeyPairs:
    """Key pairs by their access key."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._remembered: dict[str, tuple[KeyPair, int]] = {}
        self._generation = 0

    def remembered(self, access_key: str) -> KeyPair | None:
        """A pair that was found just now; None says nothing."""
        found = self._remembered.get(access_key)
        return found[0] if found is not None and self._clock.mono_ns() < found[1] else None

    async def find(self, access_key: str) -> KeyPair | None:
        """The pair of this access key, or None where there is none (any more)."""
        if (known := self.remembered(access_key)) is not None:
            return known
        token_id = token_of(access_key)
        if token_id is None:
            return None
        generation, until_ns = self._generation, self._clock.mono_ns() + REMEMBERED_NS
        found = await self._database.read(store.token_with_hash, token_id)
        if found is None:
            return None
        token, account, hashed = found
        now_us = self._clock.wall_ns() // 1000
        if token.kind != "token":
            return None
        if token.expires_us is not None:
            if token.expires_us <= now_us:
                return None
            until_ns = min(until_ns, self._clock.mono_ns() + 1000 * (token.expires_us - now_us))
        pair = pair_of(token, account, hashed)
        if generation == self._generation:
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[access_key] = pair, until_ns
        return pair

    async def named(self, account_id: int, name: str) -> KeyPair | None:
        """The pair of an account's token of this name, the newest where there are several."""

        def read(connection: Connection) -> tuple[Token, Account, bytes] | None:
            found = [one for one in store.tokens_of(connection, account_id) if one.name == name and one.kind == "token"]
            return store.token_with_hash(connection, found[-1].id) if found else None

        found = await self._database.read(read)
        return None if found is None else pair_of(*found)

    def forget(self) -> None:
        """Forgets all of them, after something was revoked or changed."""
        self._generation += 1
        self._remembered.clear()


def pair_of(token: Token, account: Account, hashed: bytes) -> KeyPair:
    """The key pair of a token. `hashed` is what is stored of its secret."""
    caller = Caller(account.id, account.name, "token", narrowed(token.scopes, account.scopes), token.id)
    return KeyPair(access_key_of(token.id), secret_key_of(hashed), caller, account.role == "owner")


def access_key_of(token_id: int) -> str:
    """Twenty capital letters and digits, as AWS has them."""
    plain = token_id.to_bytes(8, "big")
    return PREFIX + b32encode(plain + sha256(plain).digest()[:2]).decode()


def token_of(access_key: str) -> int | None:
    """The id of the token, or None for what cannot be one of our access keys."""
    if len(access_key) != 20 or not access_key.startswith(PREFIX) or not access_key.isascii():
        return None
    try:
        raw = b32decode(access_key.removeprefix(PREFIX))
    except ValueError:
        return None
    plain = raw[:8]
    token_id = int.from_bytes(plain, "big")
    return token_id if sha256(plain).digest()[:2] == raw[8:] and token_id < 2**63 else None


def secret_key_of(hashed: bytes) -> str:
    """Forty letters and digits, from what is stored of a token's secret: nothing that a shell or an option would read."""
    number = int.from_bytes(hmac.digest(hashed, b"secret key of a key pair", "sha256"))
    letters = []
    for _ in range(40):
        number, one = divmod(number, len(SECRET_LETTERS))
        letters.append(SECRET_LETTERS[one])
    return "".join(letters)
