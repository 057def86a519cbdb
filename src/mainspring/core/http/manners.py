"""What every HTTP answer of ours has and every request must keep to, in one thin layer around an application.

A request id, security headers, CORS for configured origins, compression, a check of the Host header, deadlines for
reading a body and for beginning an answer, and a last resort for errors. It costs two to three microseconds a request: the
headers are parsed once for all layers, messages pass through unless they must change, and one timer watches all requests.
"""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final

import msgspec

from mainspring.core.clock import Clock, SystemClock
from mainspring.core.http.compression import COMPRESSED_BYTES_MIN, accepts_gzip, gzip, is_textual
from mainspring.core.http.conditional import GZIPPED
from mainspring.core.http.deadlines import NEVER, Deadlines
from mainspring.core.http.proxies import TrustedProxies, see_through
from mainspring.core.http.request import WHOLE_BODY, Application, Message, Receive, Scope, Send, headers_of
from mainspring.core.http.response import Header, Response, problem_response
from mainspring.core.http.router import as_problem, refuse_upgrade
from mainspring.core.problems import Problem, TooLarge, Unavailable
from mainspring.core.telemetry.trace import serving

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
BODY_BYTES_A_SECOND_MIN = 16_384
TICK_S_MAX = 0.5
HOSTS_SEEN_MAX = 64
"""How many spellings of a Host header that was found good are remembered."""

FIELDS: Final = "mainspring.fields"
"""Header fields that a layer inside puts into the scope and wants in the answer, whoever gives it: it then needs no `send` of
its own. They are not looked at here, so that a length or a type of the body does not belong among them."""
REQUEST_ID: Final = "mainspring.request_id"
"""In the scope of every request that has come this way."""

NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
HTML: Final = (
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
EXPOSED: Final = (
    b"access-control-expose-headers",
    b"etag, location, retry-after, x-request-id, idempotency-replayed, ratelimit, ratelimit-policy",
)
PREFLIGHT: Final = (b"access-control-max-age", b"600")

Access = Callable[[Scope, int, float, str], None]
"""Called after a request with its scope, the status (0 where there was none), its seconds and its id."""

_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")


class Misdirected(Problem):
    status, type, title = 421, "core/misdirected", "This server does not answer to that name"


class SlowBody(Problem):
    status, type, title = 408, "core/slow-body", "The body of the request did not arrive in time"


class MannersSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How HTTP is spoken.

    `hosts`: names that the server answers to beside its loopback ones. `origins`: sites whose pages may call the API
    (`https://app.example.org`, or `*` for all). `body_timeout_s`: how long a body may take, and a second more for each
    16 KiB of it. `request_timeout_s`: how long an answer may take to begin. `body_bytes_max`: the largest body of any
    request; most addresses accept less. `content_security_policy`: sent with HTML that brings none of its own.
    `trusted_proxies`: networks of the proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    """

    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    body_timeout_s: float = 20.0
    request_timeout_s: float = 60.0
    body_bytes_max: int = 64 << 20
    content_security_policy: str = CONTENT_SECURITY_POLICY
    trusted_proxies: tuple[str, ...] = ()


class Manners:
    """`app` with manners; itself an ASGI application."""

    def __init__(
        self,
        app: Application,
        settings: MannersSettings | None = None,
        *,
        loopback: bool = True,
        access: Access | None = None,
        access_status_min: int = 0,
        clock: Clock | None = None,
    ) -> None:
        """`access` hears of the requests whose answer had at least the status `access_status_min`.

        `loopback` tells that only this machine should reach the listener: its requests must then name it by a loopback
        name or one of `hosts`, or a page of another site could reach it by a name that it points here (DNS rebinding).
        Elsewhere names are checked where `hosts` are configured.
        """
        settings = settings or MannersSettings()
        self._app = app
        self._access = access
        self._access_status_min = access_status_min
        checked = loopback or settings.hosts
        self._hosts = frozenset(host.lower().encode() for host in (*LOOPBACK, *settings.hosts)) if checked else None
        self._hosts_seen: set[bytes | None] = set()
        self._origins = frozenset(origin.encode() for origin in settings.origins)
        self._proxies = TrustedProxies(settings.trusted_proxies) if settings.trusted_proxies else None
        self._policy = (b"content-security-policy", settings.content_security_policy.encode("latin-1"))
        self._id_form = os.urandom(5).hex().encode() + b"-%x"
        self._id_last = 0
        self.now_ns = (clock or SystemClock()).mono_ns
        self.body_ns = round(settings.body_timeout_s * 1e9)
        self.request_ns = round(settings.request_timeout_s * 1e9)
        self.body_bytes_max = settings.body_bytes_max
        shortest_s = min(settings.body_timeout_s, settings.request_timeout_s)
        self._deadlines = Deadlines(self.now_ns, min(TICK_S_MAX, shortest_s / 4))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._socket(scope, receive, send)
            return
        headers = headers_of(scope)
        given = headers.get(b"x-request-id")
        if given is not None and _ID.fullmatch(given):
            request_id = given
        else:
            self._id_last += 1
            request_id = self._id_form % self._id_last
        scope[REQUEST_ID] = request_id
        if self._proxies is not None:
            see_through(self._proxies, scope, headers)
        serving.set(scope)
        method = scope["method"]
        started_ns = self.now_ns()
        exchange = _Exchange(self, scope, headers, request_id, receive, send, started_ns, started_ns + self.request_ns)
        if method != "GET":
            receive = exchange.receive
        self._deadlines.add(exchange)
        try:
            if len(scope.get(WHOLE_BODY, b"")) > self.body_bytes_max:
                raise self.too_large()
            if headers.get(b"host") not in self._hosts_seen and not self._knows(headers.get(b"host", b"")):
                raise Misdirected("Its name can be added to `http.hosts` if it is this server's")
            if method == "OPTIONS" and (allowed := self._preflight(headers)) is not None:
                await allowed.send(scope, exchange.send)
            else:
                await self._app(scope, receive, exchange.send)
        except asyncio.CancelledError:
            if not exchange.overdue or exchange.status or exchange.task is None:
                raise
            exchange.task.uncancel()
            await problem_response(exchange.lateness()).send(scope, exchange.send)
        except Exception as error:
            if exchange.status:
                raise
            await problem_response(as_problem(error, scope)).send(scope, exchange.send)
        finally:
            self._deadlines.discard(exchange)
            if self._access is not None and exchange.status >= self._access_status_min:
                seconds = (self.now_ns() - started_ns) * 1e-9
                self._access(scope, exchange.status, seconds, request_id.decode())

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket carries the page's cookies whatever site the page is from, so that its origin must be ours."""
        if scope["type"] == "websocket":
            headers = headers_of(scope)
            if self._proxies is not None:
                see_through(self._proxies, scope, headers)
            host = headers.get(b"host", b"")
            origin = headers.get(b"origin")
            foreign = origin is not None and origin.partition(b"://")[2] != host and not self.allows(origin)
            if foreign or not self._knows(host):
                await refuse_upgrade(Misdirected("Its page or its address is not of this server"), receive, send)
                return
        await self._app(scope, receive, send)

    def _preflight(self, headers: dict[bytes, bytes]) -> Response | None:
        """The answer to a browser that asks for a page of an allowed site whether it may."""
        method = headers.get(b"access-control-request-method")
        if method is None or not self.allows(headers.get(b"origin", b"")):
            return None
        wanted = headers.get(b"access-control-request-headers", b"")
        allowed = [(b"access-control-allow-methods", method), (b"access-control-allow-headers", wanted), PREFLIGHT]
        return Response(204, headers=allowed)

    def _knows(self, host: bytes) -> bool:
        hosts = self._hosts
        if hosts is not None:
            name = host.lower()
            if name not in hosts and name.rpartition(b":")[0] not in hosts:
                return False
        if len(self._hosts_seen) < HOSTS_SEEN_MAX:
            self._hosts_seen.add(host)
        return True

    def too_large(self) -> TooLarge:
        return TooLarge(f"A body may have at most {self.body_bytes_max:,} bytes")

    def allows(self, origin: bytes) -> bool:
        """Whether pages of `origin` may read answers."""
        return origin in self._origins or (b"*" in self._origins and origin != b"")

    def dress(self, message: Message, scope: Scope, headers: dict[bytes, bytes], request_id: bytes) -> bool:
        """Adds to the head of an answer what belongs there; gives whether its body is to be compressed."""
        kind = b""
        long = untouchable = policed = False
        given = message["headers"]
        dressed: list[Header] = [*given, *scope.get(FIELDS, ()), (b"x-request-id", request_id), NOSNIFF]
        for name, value in given:
            if name == b"content-type":
                kind = value
            elif name == b"content-length":
                long = len(value) > 4 or int(value) >= COMPRESSED_BYTES_MIN
            elif name == b"content-encoding" or (name == b"cache-control" and b"no-transform" in value):
                untouchable = True
            elif name == b"content-security-policy":
                policed = True
        if kind.startswith(b"text/html"):
            dressed += HTML
            if not policed:
                dressed.append(self._policy)
        if self._origins:
            dressed.append((b"vary", b"origin"))
            if self.allows(origin := headers.get(b"origin", b"")):
                dressed += ((b"access-control-allow-origin", origin), EXPOSED)
        message["headers"] = dressed
        if not long or untouchable or message["status"] == 206 or not is_textual(kind):
            return False
        dressed.append((b"vary", b"accept-encoding"))
        return accepts_gzip(headers.get(b"accept-encoding", b""))


class _Exchange(msgspec.Struct, eq=False):
    """One request: how much of its body has come, what has been said in answer, and by when it must get on."""

    _manners: Manners
    _scope: Scope
    _headers: dict[bytes, bytes]
    _request_id: bytes
    _source: Receive
    _send: Send
    started_ns: int
    deadline_ns: int
    status: int = 0
    overdue: bool = False
    task: asyncio.Task[Any] | None = None
    _head: Message | None = None
    _reading: bool = False
    _complete: bool = False
    _received_bytes: int = 0

    async def receive(self) -> Message:
        """The next piece of the body, which must come in time and in bounds."""
        if self._complete:
            return await self._source()
        manners = self._manners
        extra_ns = self._received_bytes * 1_000_000_000 // BODY_BYTES_A_SECOND_MIN
        self.deadline_ns = self.started_ns + manners.body_ns + extra_ns
        self._reading = True
        message = await self._source()
        self._reading = False
        self.deadline_ns = manners.now_ns() + manners.request_ns
        self._complete = not message.get("more_body", False)
        self._received_bytes += len(message.get("body", b""))
        if self._received_bytes > manners.body_bytes_max:
            raise manners.too_large()
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Passes a message on: the head dressed, the body compressed where that is worth it."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.deadline_ns = NEVER
            if self._manners.dress(message, self._scope, self._headers, self._request_id):
                if "body" in message:
                    return self._send_whole(message)
                self._head = message
                return NOTHING
        elif self._head is not None:
            return self._send_both(self._head, message)
        return self._send(message)

    async def _send_whole(self, message: Message) -> None:
        message["headers"], message["body"] = await _compressed(message["headers"], message["body"])
        await self._send(message)

    async def _send_both(self, head: Message, message: Message) -> None:
        """The head was held back until the body showed whether it is whole."""
        self._head = None
        if not message.get("more_body"):
            head["headers"], body = await _compressed(head["headers"], message.get("body", b""))
            message = {"type": "http.response.body", "body": body}
        await self._send(head)
        await self._send(message)

    def lateness(self) -> Problem:
        """Why the deadline passed."""
        if self._reading:
            return SlowBody()
        return Unavailable("This took too long and was given up", retry_after_s=5)


async def _compressed(headers: list[Header], body: bytes) -> tuple[list[Header], bytes]:
    if not body:
        # A HEAD: what its GET would have had as length is not known without compressing.
        return [header for header in headers if header[0] != b"content-length"], body
    body = await gzip(body)
    return [*(_gzipped(header, len(body)) for header in headers), (b"content-encoding", b"gzip")], body


def _gzipped(header: Header, length: int) -> Header:
    name, value = header
    if name == b"content-length":
        return name, b"%d" % length
    if name == b"etag" and not value.startswith(b"W/"):
        return name, value[:-1] + GZIPPED
    return header


class _Nothing:
    """An awaitable that is done."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


NOTHING: Final = _Nothing()
