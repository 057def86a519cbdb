"""An ASGI application driven directly, in process: what most HTTP tests need, without a socket.

answer = await call(app, "POST", "/api/links/links", json={"url": "https://example.org"}, token="…")
assert answer.status == 201 and answer.json()["code"]
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import msgspec

HOST = "127.0.0.1:8080"


class Called(msgspec.Struct):
    """What came back. `headers` has lower-case names and the last value of each; `all_headers` every one in order."""

    status: int
    all_headers: list[tuple[str, str]]
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.all_headers)

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Exchange:
    """One request in progress: `sent` are the application's messages; `hang_up` is the client going away."""

    def __init__(self, scope: dict[str, Any], pieces: list[bytes], *, complete: bool = True) -> None:
        self.scope = scope
        self.sent: list[dict[str, Any]] = []
        self.changed = asyncio.Event()
        self._gone = asyncio.Event()
        last = len(pieces) - 1
        self._pieces = [
            {"type": "http.request", "body": piece, "more_body": position < last or not complete}
            for position, piece in enumerate(pieces)
        ]

    def hang_up(self) -> None:
        self._gone.set()

    async def receive(self) -> dict[str, Any]:
        if self._pieces and not self._gone.is_set():
            return self._pieces.pop(0)
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append({**message})
        self.changed.set()

    async def body_beyond(self, length: int) -> bytes:
        """Waits until more than `length` bytes of body have been sent, and gives all of them."""
        async with asyncio.timeout(30):
            while len(body := self.body) <= length:
                self.changed.clear()
                await self.changed.wait()
        return body

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent if message["type"] == "http.response.body")

    def answer(self) -> Called:
        start = self.sent[0]
        assert start["type"] == "http.response.start"
        assert self.sent[-1]["type"] == "http.response.body" and not self.sent[-1].get("more_body")
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
        assert all(name == name.lower() for name, _ in headers)
        return Called(start["status"], headers, self.body)


def http_scope(
    method: str, target: str, headers: Mapping[str, str] | list[tuple[str, str]] = (), **more: Any
) -> dict[str, Any]:
    """A scope as Granian makes it; `target` is the path and query as they stand in the request line."""
    raw, _, query = target.partition("?")
    given = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    if not any(name == "host" for name, _ in given):
        given.insert(0, ("host", HOST))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw, errors="replace"),
        "raw_path": raw.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8080),
        **more,
    }


async def call(
    app: Any,
    method: str,
    target: str,
    *,
    json: Any = msgspec.UNSET,
    body: bytes | list[bytes] = b"",
    headers: Mapping[str, str] | list[tuple[str, str]] = (),
    token: str | None = None,
    **more: Any,
) -> Called:
    """One request and its whole answer. A list as `body` arrives in pieces; `more` is put into the scope."""
    given = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    names = {name for name, _ in given}
    if json is not msgspec.UNSET:
        body = msgspec.json.encode(json)
        if "content-type" not in names:
            given.append(("content-type", "application/json"))
    if token is not None:
        given.append(("authorization", f"Bearer {token}"))
    pieces = body if isinstance(body, list) else [body]
    if isinstance(body, bytes) and body and "content-length" not in names:
        given.append(("content-length", str(len(body))))
    exchange = Exchange(http_scope(method, target, given, **more), pieces)
    async with asyncio.timeout(30):
        await app(exchange.scope, exchange.receive, exchange.send)
    return exchange.answer()


@asynccontextmanager
async def started(app: Any, exchange: Exchange) -> AsyncIterator["asyncio.Task[None]"]:
    """Runs `app` on `exchange` beside the test, and ends it with the block."""
    task = asyncio.ensure_future(app(exchange.scope, exchange.receive, exchange.send))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
