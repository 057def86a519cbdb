"""An HTTP request as a handler sees it: a thin reading of an ASGI scope that parses only what is asked for.

Nothing here is trusted: whatever the client sent that cannot be read is a `Problem` (400, 413), never another error.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from mainspring.core.http.forms import Form, parse_multipart
from mainspring.core.problems import Malformed, Problem, TooLarge

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

WHOLE_BODY = "mainspring.body"
"""In the scope of a request whose body has come whole with its head; `receive` gives it all the same."""
WHOLE_ANSWER = "mainspring.whole_answer"
"""In the scope where a whole answer may be one message: the body is in the `body` of its `http.response.start`."""

BODY_BYTES_MAX = 1 << 20
FIELDS_MAX = 100


class UnsupportedMediaType(Problem):
    status, type, title = 415, "core/unsupported-media-type", "The body is not of a type that this address reads"


class Disconnected(Exception):
    """The client went away before its request was complete; there is nobody to answer."""


class Channel(NamedTuple):
    """The ASGI triple of a WebSocket that has not been accepted yet; `wire.websocket` makes a socket of it."""

    scope: Scope
    receive: Receive
    send: Send


class Request:
    """One request. `path_values` are the decoded values of the route's names; `body_bytes_max` is what `body` accepts.

    `headers` go by lower-case name; a repeated one is joined by commas, `cookie` by semicolons.
    """

    __slots__ = ("_body", "body_bytes_max", "headers", "path_values", "receive", "scope")

    def __init__(self, scope: Scope, receive: Receive, body_bytes_max: int = BODY_BYTES_MAX) -> None:
        self.scope = scope
        self.receive = receive
        self.body_bytes_max = body_bytes_max
        self.path_values: dict[str, str] = {}
        self.headers = headers_of(scope)
        self._body: bytes | None = None

    @property
    def method(self) -> str:
        method: str = self.scope["method"]
        return method

    @property
    def path(self) -> str:
        """The path, percent-decoded."""
        path: str = self.scope["path"]
        return path

    @property
    def query_string(self) -> bytes:
        """What stands after the question mark, as it was sent."""
        query: bytes = self.scope["query_string"]
        return query

    @property
    def scheme(self) -> str:
        scheme: str = self.scope.get("scheme", "http")
        return scheme

    @property
    def client(self) -> tuple[str, int]:
        """Address and port of the connection's other end; `("", 0)` on a Unix socket."""
        client = self.scope.get("client")
        return (client[0], int(client[1])) if client else ("", 0)

    @property
    def id(self) -> str:
        """The id that `manners` gave this request, for logs; empty without them."""
        request_id: bytes = self.scope.get("mainspring.request_id", b"")
        return request_id.decode()

    def header(self, name: str) -> str | None:
        """The header called `name` (lower case), or None."""
        value = self.headers.get(name.encode())
        return None if value is None else value.decode("latin-1")

    @property
    def cookies(self) -> dict[str, str]:
        """Cookies by name; of a repeated one the first, which is the one of the more specific path (RFC 6265, 5.4)."""
        cookies: dict[str, str] = {}
        for pair in self.headers.get(b"cookie", b"").decode("latin-1").split(";"):
            name, equals, value = pair.strip().partition("=")
            if equals:
                cookies.setdefault(name, value)
        return cookies

    @property
    def query_pairs(self) -> list[tuple[str, str]]:
        """The query's fields in order. Raises `Malformed` for bytes that are no UTF-8 and for over 100 fields."""
        return form_pairs(self.query_string, "/query")

    @property
    def query(self) -> dict[str, str]:
        """The query's fields; of a repeated one the last."""
        return dict(self.query_pairs)

    async def body(self, bytes_max: int | None = None) -> bytes:
        """The whole body. Raises `TooLarge` beyond `bytes_max`: after the first piece where its length was declared,
        else at the piece that passes the limit."""
        if self._body is not None:
            return self._body
        limit = self.body_bytes_max if bytes_max is None else bytes_max
        body: bytes | None = self.scope.get(WHOLE_BODY)
        more = False
        if body is None:
            message = await self.receive()
            if message["type"] != "http.request":
                raise Disconnected
            body, more = message.get("body", b""), message.get("more_body", False)
            assert body is not None
        if len(body) > limit:
            raise _too_large(limit)
        if more and self._declared(limit) != len(body):
            pieces = [body]
            async for piece in self._rest(len(body), limit):
                pieces.append(piece)
            body = b"".join(pieces)
        self._body = body
        return body

    async def stream(self, bytes_max: int | None = None) -> AsyncIterator[bytes]:
        """The body in pieces as they arrive. Raises `TooLarge` at the piece that passes `bytes_max`."""
        limit = self.body_bytes_max if bytes_max is None else bytes_max
        if self._declared(limit) != 0:
            async for piece in self._rest(0, limit):
                yield piece

    async def form(self, bytes_max: int | None = None) -> Form:
        """The body as a form, `multipart/form-data` or `application/x-www-form-urlencoded`.

        Raises `UnsupportedMediaType`, `Malformed` or `TooLarge`.
        """
        content_type = self.header("content-type") or ""
        kind = content_type.partition(";")[0].strip().lower()
        if kind == "application/x-www-form-urlencoded":
            return Form(form_pairs(await self.body(bytes_max), "/body"), [])
        if kind == "multipart/form-data":
            return parse_multipart(content_type, await self.body(bytes_max))
        raise UnsupportedMediaType("Send multipart/form-data or application/x-www-form-urlencoded")

    def _declared(self, limit: int) -> int | None:
        """The length that the head declares; a body that has reached it needs no message more to be complete."""
        declared = self.headers.get(b"content-length")
        if declared is None:
            return None
        if not declared.isdigit():
            raise Malformed("Content-Length is not a number")
        if len(declared) > 15 or int(declared) > limit:
            raise _too_large(limit)
        return int(declared)

    async def _rest(self, size: int, limit: int) -> AsyncIterator[bytes]:
        declared = self._declared(limit)
        more = True
        while more and size != declared:
            message = await self.receive()
            if message["type"] != "http.request":
                raise Disconnected
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
            if piece:
                yield piece
            more = message.get("more_body", False)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body may have at most {limit:,} bytes", bytes_max=limit)


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """The scope's headers as a dict, parsed once however many layers ask."""
    shared: dict[bytes, bytes] | None = scope.get("mainspring.headers")
    if shared is not None:
        return shared
    raw = scope["headers"]
    headers = dict(raw)
    if len(headers) != len(raw):
        headers = {}
        for name, value in raw:
            seen = headers.get(name)
            headers[name] = value if seen is None else seen + (b"; " if name == b"cookie" else b", ") + value
    scope["mainspring.headers"] = headers
    return headers


def form_pairs(encoded: bytes, pointer: str) -> list[tuple[str, str]]:
    """The fields of an `application/x-www-form-urlencoded` text in order; a field without `=` has an empty value."""
    if not encoded:
        return []
    if encoded.count(b"&") >= FIELDS_MAX:
        raise Malformed(f"More than {FIELDS_MAX} fields", pointer=pointer)
    try:
        text = encoded.decode()
        plain = "%" not in text and "+" not in text
        pairs = []
        for field in text.split("&"):
            if field:
                name, _, value = field.partition("=")
                if not plain:
                    name, value = unquote_plus(name, errors="strict"), unquote_plus(value, errors="strict")
                pairs.append((name, value))
    except UnicodeDecodeError:
        raise Malformed("Not UTF-8", pointer=pointer) from None
    return pairs
