"""SASL mechanisms as exchanges of messages, sans I/O but for what must be looked up: PLAIN (RFC 4616), SCRAM (`scram`) and
OAUTHBEARER (RFC 7628), whose tokens are those of the house's accounts.
"""

import asyncio
from typing import Protocol

import msgspec

from mainspring.storage.log.kafka import scram
from mainspring.storage.log.kafka.security import Security

REFUSED = "Authentication failed: Invalid username or password"


class LoginFailed(Exception):
    """The text is what the client may be told."""


class Step(msgspec.Struct, frozen=True):
    """What goes back to the client. `user` is set when the login is complete; `expires_us` (wall) where that ends by itself."""

    message: bytes
    user: str | None = None
    expires_us: int | None = None
    denied: frozenset[int] = frozenset()


class Login(Protocol):
    mechanism: str

    async def step(self, message: bytes) -> Step:
        """Takes the client's next message. Raises `LoginFailed`."""


def begin(mechanism: str, security: Security) -> Login:
    """A new exchange; `mechanism` is one of those that are offered."""
    if mechanism == "PLAIN":
        return Plain(security)
    if mechanism == "OAUTHBEARER":
        return OAuthBearer(security)
    return Scram(mechanism, security)


class Plain:
    """A name and a password, which is one that a SCRAM credential was made from, or an API token of the account of this
    name."""

    mechanism = "PLAIN"

    def __init__(self, security: Security) -> None:
        self._security = security

    async def step(self, message: bytes) -> Step:
        try:
            authzid, user, password = message.decode().split("\0")
        except ValueError:
            raise LoginFailed("Invalid SASL/PLAIN response: expected 3 tokens") from None
        if not user or not password or authzid not in ("", user):
            raise LoginFailed(REFUSED)
        for mechanism in scram.HASHES:
            kept = self._security.credential(mechanism, user)
            if kept is not None:
                if await asyncio.to_thread(scram.is_password, mechanism, password, kept):
                    return Step(b"", user)
                raise LoginFailed(REFUSED)
        find = self._security.find_token
        token = await find(password) if find is not None else None
        if token is None or token.name != user:
            raise LoginFailed(REFUSED)
        return Step(b"", user, token.expires_us, token.denied)


class Scram:
    def __init__(self, mechanism: str, security: Security) -> None:
        self.mechanism = mechanism
        self._exchange = scram.Exchange(mechanism, lambda user: security.credential(mechanism, user))
        self._begun = False

    async def step(self, message: bytes) -> Step:
        try:
            if not self._begun:
                self._begun = True
                return Step(self._exchange.first(message))
            return Step(self._exchange.final(message), self._exchange.user)
        except scram.ScramFailed as failed:
            raise LoginFailed(str(failed)) from None


class OAuthBearer:
    """A token that is refused is answered with why, as JSON; the client says that it has read that, and the login fails."""

    mechanism = "OAUTHBEARER"

    def __init__(self, security: Security) -> None:
        self._security = security
        self._refused = False

    async def step(self, message: bytes) -> Step:
        if self._refused:
            raise LoginFailed("Authentication failed: the token is not valid")
        head, _, rest = message.partition(b"\x01")
        pairs = dict(pair.partition(b"=")[::2] for pair in rest.split(b"\x01") if pair)
        scheme, _, token = pairs.get(b"auth", b"").partition(b" ")
        if not head.startswith(b"n,") or scheme.lower() != b"bearer" or not token:
            raise LoginFailed("Invalid OAUTHBEARER client first message")
        authzid = head.split(b",")[1].removeprefix(b"a=").decode(errors="replace")
        find = self._security.find_token
        found = await find(token.decode(errors="replace").strip()) if find is not None else None
        if found is None or authzid not in ("", found.name):
            self._refused = True
            return Step(b'{"status":"invalid_token"}')
        return Step(b"", found.name, found.expires_us, found.denied)
