"""A request that was not written in the plain way, read by h11; its answer is framed by h11 as well."""

import asyncio
from http.client import responses
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import h11

from mainspring.core.http.request import Disconnected, Message
from mainspring.core.serve.exchange import Exchange

if TYPE_CHECKING:
    from mainspring.core.serve.http1 import Http1Connection

BODY_BYTES_WAITING_MAX = 256 << 10


class OddExchange(Exchange):
    """`http` is the connection's state as h11 keeps it."""

    __slots__ = (
        "_complete",
        "_connection",
        "_gone",
        "_head_bytes",
        "_news",
        "_pieces",
        "_told",
        "_waiting",
        "http",
        "streams",
    )

    def __init__(self, connection: "Http1Connection", http: h11.Connection, request: h11.Request) -> None:
        raw_path, _, query = bytes(request.target).partition(b"?")
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": request.http_version.decode(),
            "method": request.method.decode(),
            "scheme": connection.scheme,
            "path": unquote_to_bytes(raw_path).decode("utf-8", "replace"),
            "raw_path": raw_path,
            "query_string": query,
            "headers": [(bytes(name), bytes(value)) for name, value in request.headers],
            "client": connection.peer,
            "server": None,
        }
        self.head = self.task = None
        self.http = http
        self.streams = False
        self._connection = connection
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._complete = self._told = self._gone = False
        self._head_bytes = b""
        self._news = asyncio.Event()

    @property
    def is_full(self) -> bool:
        return self._waiting >= BODY_BYTES_WAITING_MAX

    def put(self, piece: bytes) -> None:
        """Adds a piece of the body."""
        self._pieces.append(piece)
        self._waiting += len(piece)
        self._news.set()

    def complete(self) -> None:
        self._complete = True
        self._news.set()

    def broke_off(self) -> None:
        """Nothing readable comes any more."""
        if not self._complete:
            self.gone()

    def gone(self) -> None:
        self._gone = True
        self._news.set()

    def done(self) -> None:
        self._connection.answered_oddly(self.http)

    async def receive(self) -> Message:
        if self.http.they_are_waiting_for_100_continue:
            self._connection.write_now(self.http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        while not (self._pieces or self._gone or (self._complete and not self._told)):
            self._news.clear()
            await self._news.wait()
        if not self._pieces and (self._told or not self._complete):
            return {"type": "http.disconnect"}
        body = b"".join(self._pieces)
        self._pieces.clear()
        self._waiting = 0
        self._told = self._complete
        self._connection.listen()
        return {"type": "http.request", "body": body, "more_body": not self._complete}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.head = message
            status = message["status"]
            fields = list(message["headers"])
            if all(name != b"date" for name, _ in fields):
                fields.append((b"date", self._connection.server.date().removeprefix(b"date: ")))
            if self._connection.finishing:
                fields.append((b"connection", b"close"))
            head = h11.Response(status_code=status, headers=fields, reason=responses.get(status, ""))
            # Written with the first piece of the body, in one packet.
            self._head_bytes = self.http.send(head) or b""
            return
        data = self._head_bytes + (self.http.send(h11.Data(data=message.get("body", b""))) or b"")
        self._head_bytes = b""
        more = message.get("more_body")
        if not more:
            data += self.http.send(h11.EndOfMessage()) or b""
        self._connection.write_now(data)
        if more:
            self.streams = True
            if self._gone:
                raise Disconnected
            await self._connection.written()
            await asyncio.sleep(0)
