"""From a request to its caller.

Credentials are looked up by a hash (SHA-256 in the database, BLAKE2s in memory), never compared letter by letter, so that
timing tells nothing about them and no plain secret stays in memory. A caller that was found is remembered for 0.4 s, counted
from before its row was read; whatever is revoked, on whichever node, is therefore refused everywhere within a second, and at
once on the node that revoked it. When a credential was used is noted here and stored later, in one write for all, exact to a
minute.
"""

import asyncio
import binascii
import logging
from base64 import b64decode
from collections.abc import Awaitable, Callable
from hashlib import blake2s
from hmac import compare_digest

from mainspring.core.accounts.caller import ANONYMOUS, Caller
from mainspring.core.accounts.model import ONE_CLICK, CredentialsInvalid, CrossOrigin, digest, narrowed
from mainspring.core.accounts.steps import store
from mainspring.core.clock import Clock
from mainspring.core.http.request import Request
from mainspring.core.ports import Database
from mainspring.core.problems import Problem
from mainspring.core.telemetry import Metrics

COOKIE = "ms_session"
REMEMBERED_NS = 400_000_000
REMEMBERED_MAX = 10_000
USES_MAX = 100_000
FLUSH_S = 20.0
MINUTE_US = 60_000_000
SESSION_US = 30 * 24 * 3600 * 1_000_000
CREDENTIAL_BYTES_MAX = 4_096

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_log = logging.getLogger(__name__)

Found = tuple[Caller, int | None]
"""A caller, and when its credentials expire (microseconds UTC)."""


class Authenticator:
    def __init__(self, database: Database, clock: Clock, one_click: str, metrics: Metrics) -> None:
        self._database = database
        self._clock = clock
        self._mono_ns = clock.mono_ns
        self._one_click = digest(one_click)
        self._remembered: dict[bytes, tuple[Caller, int]] = {}
        self._reading: dict[bytes, asyncio.Task[Caller]] = {}
        self._generation = 0
        self._tokens_used: dict[int, int] = {}
        self._sessions_seen: dict[int, int] = {}
        self._flushing: asyncio.Task[None] | None = None
        read = metrics.counter("accounts_credentials_read", "Credentials looked up in the database", ("outcome",))
        self._accepted, self._refused = read.labels("accepted"), read.labels("refused")
        metrics.gauge("accounts_callers_remembered", "Callers in memory", sample=lambda: len(self._remembered))

    async def authenticate(self, request: Request) -> Caller:
        """Whose credentials a request carries, in `Authorization`, `X-Api-Key` or the session's cookie, in this order.

        Nobody's where it carries none, or a cookie of a session that has ended. Raises `CredentialsInvalid` for a token
        that is not valid, `CrossOrigin` where a cookie comes with an unsafe method from pages of another origin.
        """
        headers = request.headers
        presented = headers.get(b"authorization") or headers.get(b"x-api-key")
        if presented is None:
            return await self._by_cookie(request) if b"cookie" in headers else ANONYMOUS
        key = blake2s(presented).digest()
        known = self._remembered.get(key)
        if known is not None and self._mono_ns() < known[1]:
            return known[0]
        caller = await self._read_once(key, lambda: self._token(headers))
        if caller is ANONYMOUS:
            raise CredentialsInvalid
        return caller

    def forget(self) -> None:
        """Forgets everybody, after something was revoked or changed; what is being read right now is not remembered."""
        self._generation += 1
        self._remembered.clear()
        self._reading.clear()

    async def flush(self) -> None:
        """Stores the uses that were noted."""
        tokens_used, self._tokens_used = self._tokens_used, {}
        sessions_seen, self._sessions_seen = self._sessions_seen, {}
        if tokens_used or sessions_seen:
            await self._database.write(store.note_uses, tokens_used, sessions_seen, SESSION_US)

    async def stop(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)
        await self._flush_or_say()

    async def _by_cookie(self, request: Request) -> Caller:
        secret = request.cookies.get(COOKIE)
        if not secret:
            return ANONYMOUS
        key = blake2s(b"\0cookie " + secret.encode("latin-1")).digest()
        known = self._remembered.get(key)
        if known is not None and self._mono_ns() < known[1]:
            caller = known[0]
        else:
            caller = await self._read_once(key, lambda: self._session(secret))
        if caller is not ANONYMOUS and _unsafe(request) and not same_origin(request):
            raise CrossOrigin
        return caller

    async def _read_once(self, key: bytes, read: Callable[[], Awaitable[Found]]) -> Caller:
        """Reads a caller once for all requests that wait for it. Nobody is not remembered."""
        task = self._reading.get(key)
        if task is None:
            task = self._reading[key] = asyncio.create_task(self._read(key, read))
            task.add_done_callback(self._read_done)
        return await asyncio.shield(task)

    async def _read(self, key: bytes, read: Callable[[], Awaitable[Found]]) -> Caller:
        this, generation, until_ns = asyncio.current_task(), self._generation, self._mono_ns() + REMEMBERED_NS
        try:
            caller, expires_us = await read()
            if caller is ANONYMOUS:
                self._refused.inc()
                return caller
            self._accepted.inc()
            if expires_us is not None:
                until_ns = min(until_ns, self._mono_ns() + 1000 * expires_us - self._clock.wall_ns())
            if generation == self._generation:
                self._remember(key, caller, until_ns)
            return caller
        finally:
            if self._reading.get(key) is this:
                del self._reading[key]

    @staticmethod
    def _read_done(task: asyncio.Task[Caller]) -> None:
        """Looks at the error of a read whose requests have all gone away."""
        if not task.cancelled():
            task.exception()

    def _remember(self, key: bytes, caller: Caller, until_ns: int) -> None:
        remembered = self._remembered
        remembered.pop(key, None)
        remembered[key] = caller, until_ns
        # All stay equally long, so the first ones are the oldest; two out for one in keeps only what is fresh.
        for _ in range(2):
            oldest = next(iter(remembered))
            if len(remembered) <= REMEMBERED_MAX and self._mono_ns() < remembered[oldest][1]:
                break
            del remembered[oldest]
            if not remembered:
                break

    async def _token(self, headers: dict[bytes, bytes]) -> Found:
        secret, user = _secret(headers)
        if secret is None:
            return ANONYMOUS, None
        hashed = digest(secret)
        if compare_digest(hashed, self._one_click):
            return ONE_CLICK, None
        found = await self._database.read(store.token_by_hash, hashed)
        if found is None:
            return ANONYMOUS, None
        token, account = found
        now_us = self._clock.wall_ns() // 1000
        if token.expires_us is not None and token.expires_us <= now_us:
            return ANONYMOUS, None
        if token.kind == "app_password" and user != account.name:
            return ANONYMOUS, None
        self._note(self._tokens_used, token.id, token.last_used_us or 0, now_us)
        caller = Caller(account.id, account.name, token.kind, narrowed(token.scopes, account.scopes), token.id)
        return caller, token.expires_us

    async def _session(self, secret: str) -> Found:
        found = await self._database.read(store.session_by_hash, digest(secret.encode("latin-1")))
        now_us = self._clock.wall_ns() // 1000
        if found is None or found[0].expires_us <= now_us:
            return ANONYMOUS, None
        session, account = found
        self._note(self._sessions_seen, session.id, session.seen_us, now_us)
        return Caller(account.id, account.name, "session", account.scopes, session.id), session.expires_us

    def _note(self, uses: dict[int, int], id: int, noted_us: int, now_us: int) -> None:
        minute_us = now_us - now_us % MINUTE_US
        if minute_us <= noted_us or (len(uses) >= USES_MAX and id not in uses):
            return
        uses[id] = minute_us
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush_later(), name="uses of credentials")

    async def _flush_later(self) -> None:
        await self._clock.sleep(FLUSH_S)
        await self._flush_or_say()

    async def _flush_or_say(self) -> None:
        try:
            await self.flush()
        except Problem:
            # Only "last used" is lost, and it will be noted again at the next use.
            _log.warning("could not store when credentials were last used", exc_info=True)


def same_origin(request: Request) -> bool:
    """Whether a page of this very origin made the request: by `Sec-Fetch-Site`, or by `Origin` where that is missing."""
    site = request.header("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin, host = request.header("origin"), request.header("host")
    return origin is not None and host is not None and origin.partition("://")[2].lower() == host.lower()


def _unsafe(request: Request) -> bool:
    """Whether it may change something; a WebSocket may, though its handshake is a GET."""
    return request.scope["type"] == "websocket" or request.method not in _SAFE


def _secret(headers: dict[bytes, bytes]) -> tuple[bytes | None, str | None]:
    """The secret that was presented and, with Basic, the user's name. None for what cannot be one."""
    authorization = headers.get(b"authorization")
    if not authorization:
        key = headers[b"x-api-key"].strip()
        return (key or None) if len(key) <= CREDENTIAL_BYTES_MAX else None, None
    scheme, _, rest = authorization.partition(b" ")
    rest = rest.strip()
    if not rest or len(rest) > CREDENTIAL_BYTES_MAX:
        return None, None
    if scheme.lower() == b"bearer":
        return rest, None
    if scheme.lower() != b"basic":
        return None, None
    try:
        user, colon, password = b64decode(rest, validate=True).partition(b":")
        return (password or None) if colon else None, user.decode().lower()
    except (binascii.Error, UnicodeDecodeError):
        return None, None
