"""The one client for requests to addresses that somebody else chose (webhooks, previews, imports).

Such a request must not become a way into the network that this process stands in (SSRF). So names are resolved here, every
address is judged, and the connection goes to the address that was judged: nobody can answer the second question otherwise
than the first (DNS rebinding). Each redirect is a new request with all checks; none leads from https to http. Time covers
everything from the name to the last byte, the body is counted while it arrives, and nothing is remembered between
requests: no cookies, no connections, no credentials but those given.

HTTP/1.1 is h11's; sockets are the loop's. (httpcore would do, but needs anyio for its locks.)
"""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

import h11

from mainspring import __version__
from mainspring.core.http.addresses import AllowList
from mainspring.core.problems import Problem

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Gives the addresses of a host, best first."""
Connect = Callable[[str, int], Awaitable[socket.socket]]
"""Gives a connected, non-blocking socket to an address."""

ADDRESSES_TRIED_MAX = 3
CONNECT_TIMEOUT_S = 1.5
REDIRECTS = {301, 302, 303, 307, 308}
_PATH_SAFE = "/%:@!$&'()*+,;=~-._"


class FetchError(Problem):
    """A request to another server did not succeed."""

    status, type, title = 502, "core/fetch-failed", "Another server could not be reached or did not answer properly"


class InvalidUrl(FetchError):
    status, type, title = 422, "core/invalid-url", "This is not an address that can be fetched"


class BlockedAddress(FetchError):
    status, type, title = 422, "core/blocked-address", "This address is not on the public Internet"


class FetchTooLarge(FetchError):
    type, title = "core/fetch-too-large", "The other server's answer is too large"


class FetchTimeout(FetchError):
    status, type, title = 504, "core/fetch-timeout", "The other server did not answer in time"


class BadRedirect(FetchError):
    type, title = "core/bad-redirect", "The other server redirects in a way that is not followed"


class Target(NamedTuple):
    """A URL taken apart once, so that what is checked and what is requested cannot differ."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> "Target":
        """Raises `InvalidUrl`."""
        if len(url) > 8192 or any(character <= " " or character == "\x7f" for character in url):
            raise InvalidUrl("The address is too long or has a space or control character in it")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise InvalidUrl(f"The address cannot be read: {error}") from None
        if parts.scheme not in ("http", "https"):
            raise InvalidUrl("The address must begin with http:// or https://")
        if parts.username is not None or parts.password is not None:
            raise InvalidUrl("The address must not hold a user name or password")
        if ":" not in host:
            try:
                host = host.encode("idna").decode()
            except UnicodeError:
                host = ""
        if not host or any(character in host for character in "%\\/?#@ "):
            raise InvalidUrl("The address has no valid host")
        path = quote(parts.path or "/", safe=_PATH_SAFE)
        if parts.query:
            path += "?" + quote(parts.query, safe=_PATH_SAFE + "?")
        return cls(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), path)

    @property
    def origin(self) -> tuple[str, str, int]:
        return self[:3]

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


class Fetched(NamedTuple):
    """A whole answer; `url` is the one that answered, after redirects. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


class Answer:
    """An answer whose body is still to be read; given by `GuardedClient.open`."""

    def __init__(self, url: str, status: int, headers: Mapping[str, str], wire: "_Wire", body_bytes_max: int) -> None:
        self.url = url
        self.status = status
        self.headers = headers
        self._wire = wire
        self._body_bytes_max = body_bytes_max

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives; stop when you have enough. Raises `FetchTooLarge`."""
        received = 0
        while (event := await self._wire.event()) and isinstance(event, h11.Data):
            received += len(event.data)
            if received > self._body_bytes_max:
                raise FetchTooLarge(f"Its answer has more than the {self._body_bytes_max:,} bytes that are read")
            yield bytes(event.data)

    async def body(self) -> bytes:
        """The whole body. Raises `FetchTooLarge`."""
        return b"".join([piece async for piece in self.pieces()])


class GuardedClient:
    """Fetches from public addresses, and from those that `allow` names (networks, addresses, hosts).

    `timeout_s` is for a whole fetch with its redirects; `body_bytes_max` for the body of the answer. `resolve` and
    `connect` are for tests, `trust` for private certificate authorities.
    """

    def __init__(
        self,
        *,
        allow: Iterable[str] = (),
        timeout_s: float = 5.0,
        body_bytes_max: int = 1 << 20,
        redirects_max: int = 3,
        user_agent: str = f"mainspring/{__version__}",
        resolve: Resolve | None = None,
        connect: Connect | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._allow = AllowList(allow)
        self._timeout_s = timeout_s
        self._body_bytes_max = body_bytes_max
        self._redirects_max = redirects_max
        self._user_agent = user_agent
        self._resolve = resolve or system_resolve
        self._connect = connect or system_connect
        self._trust = trust

    async def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Fetched:
        """Fetches a whole answer, whatever its status. Raises subclasses of `FetchError`."""
        return await self.request("GET", url, headers=headers)

    async def post(self, url: str, body: bytes, *, headers: Mapping[str, str] | None = None) -> Fetched:
        """Sends `body` and fetches the whole answer, whatever its status. Raises subclasses of `FetchError`."""
        return await self.request("POST", url, headers=headers, body=body)

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Fetched:
        async with self.open(method, url, headers=headers, body=body) as answer:
            return Fetched(answer.status, answer.headers, await answer.body(), answer.url)

    @contextlib.asynccontextmanager
    async def open(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> AsyncIterator[Answer]:
        """The same, with the body still to be read inside the `async with`, to which the time limit applies as well."""
        deadline = asyncio.timeout(self._timeout_s)
        try:
            async with deadline, contextlib.AsyncExitStack() as stack:
                yield await self._follow(stack, method, url, dict(headers or {}), body)
        except (OSError, h11.ProtocolError, EOFError) as error:
            # A deadline is a TimeoutError, and so an OSError too.
            if deadline.expired():
                raise FetchTimeout(f"Not finished within {self._timeout_s:g} s") from error
            if isinstance(error, ssl.SSLCertVerificationError):
                raise FetchError(f"Its TLS certificate is not valid: {error.verify_message}") from error
            raise FetchError from error

    async def _follow(
        self, stack: contextlib.AsyncExitStack, method: str, url: str, headers: dict[str, str], body: bytes
    ) -> Answer:
        target = Target.parse(url)
        for _ in range(self._redirects_max + 1):
            wire = _Wire(*await self._open_connection(target))
            stack.push_async_callback(wire.close)
            status, answered = await wire.ask(method, target, self._dressed(headers), body)
            if status not in REDIRECTS or "location" not in answered:
                return Answer(target.url, status, answered, wire, self._body_bytes_max)
            await stack.aclose()
            further = Target.parse(urljoin(target.url, answered["location"]))
            if (target.scheme, further.scheme) == ("https", "http"):
                raise BadRedirect("It redirects from https to http")
            if further.origin != target.origin:
                # What was meant for one server (credentials above all) is nobody else's.
                headers = {name: value for name, value in headers.items() if name.lower() == "accept"}
            if status == 303 or (status in (301, 302) and method == "POST"):
                method, body = "GET" if method != "HEAD" else method, b""
                headers = {name: value for name, value in headers.items() if not name.lower().startswith("content-")}
            target = further
        raise BadRedirect(f"It redirects more than {self._redirects_max} times")

    def _dressed(self, headers: Mapping[str, str]) -> dict[str, str]:
        ours = {"user-agent": self._user_agent, "accept": "*/*", "accept-encoding": "identity"}
        return {**ours, **{name.lower(): value for name, value in headers.items()}}

    async def _open_connection(self, target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        addresses = await self._resolve(target.host, target.port)
        allowed = [address for address in addresses if self._allow.admits(target.host, address)]
        if not allowed:
            raise BlockedAddress(f"{target.host} is not on the public Internet")
        sock = await self._connect_to_one(allowed[:ADDRESSES_TRIED_MAX], target.port)
        if target.scheme == "http":
            return await asyncio.open_connection(sock=sock)
        if self._trust is None:
            self._trust = await asyncio.to_thread(system_trust)  # Reading all authorities takes some 50 ms.
        return await asyncio.open_connection(sock=sock, ssl=self._trust, server_hostname=target.host)

    async def _connect_to_one(self, addresses: list[str], port: int) -> socket.socket:
        """A dead address may not use up the time that a living one needs."""
        for address in addresses[:-1]:
            try:
                return await asyncio.wait_for(self._connect(address, port), CONNECT_TIMEOUT_S)
            except OSError:
                continue
        return await self._connect(addresses[-1], port)


class _Wire:
    """One request and its answer on a connection of their own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=64 << 10)

    async def ask(
        self, method: str, target: Target, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str]]:
        """Sends a request; gives the status and headers of its answer."""
        framing = {"host": target.authority, "connection": "close"}
        if body or method in ("POST", "PUT", "PATCH"):
            framing["content-length"] = str(len(body))
        try:
            request = h11.Request(method=method, target=target.path, headers=[*{**headers, **framing}.items()])
        except h11.LocalProtocolError as error:
            raise InvalidUrl(f"The request cannot be sent: {error}") from None
        self._writer.write(self._protocol.send(request) or b"")
        if body:
            self._writer.write(self._protocol.send(h11.Data(data=body)) or b"")
        self._writer.write(self._protocol.send(h11.EndOfMessage()) or b"")
        await self._writer.drain()
        while not isinstance(event := await self.event(), h11.Response):
            if event is None:
                raise EOFError
        return event.status_code, {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}

    async def event(self) -> Any:
        """The next event of the answer; None at its end. Raises `h11.RemoteProtocolError`, also where it breaks off."""
        while (event := self._protocol.next_event()) is h11.NEED_DATA:
            self._protocol.receive_data(await self._reader.read(65536))
        return None if event is h11.PAUSED or isinstance(event, h11.EndOfMessage | h11.ConnectionClosed) else event

    async def close(self) -> None:
        """Cuts the connection: what is still on its way is of no interest."""
        self._writer.transport.abort()


async def system_resolve(host: str, port: int) -> list[str]:
    """The machine's resolver. Raises `FetchError` where there is no such host."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchError(f"There is no host {host}") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def system_connect(address: str, port: int) -> socket.socket:
    """A socket connected to an IP address: literally that one, no name is looked up."""
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def system_trust() -> ssl.SSLContext:
    """The machine's certificate authorities; certifi's where the machine has none."""
    context = ssl.create_default_context()
    folder = Path(ssl.get_default_verify_paths().capath or "/nowhere")
    if not context.cert_store_stats()["x509_ca"] and not any(folder.glob("*")):
        import certifi

        context.load_verify_locations(certifi.where())
    return context
