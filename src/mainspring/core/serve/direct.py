"""A request whose head was read in the plain way: its body is the pieces that the socket gives, its answer bytes on the socket.

Nothing is copied between them but what a piece and a body share. An answer is framed by its `content-length`, or in chunks;
one that ends early, or whose headers would break its framing, cuts the connection. A client that has left is no reason to stop
what it asked for, but for an answer that is being streamed to it.
"""

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from mainspring.core.http.request import WHOLE_ANSWER, WHOLE_BODY, Disconnected, Message
from mainspring.core.serve.exchange import PlainExchange
from mainspring.core.serve.heads import BODILESS, Head, answer_head

if TYPE_CHECKING:
    from mainspring.core.serve.http1 import Http1Connection

BODY_BYTES_WAITING_MAX = 1 << 20
JOINED_BYTES_MAX = 64 << 10
"""Up to this size a body is joined to its head: one packet costs less than two."""

ASGI = {"version": "3.0"}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE = b"connection: close"


class DirectExchange(PlainExchange):
    """`left` bytes of the body are still to come."""

    __slots__ = (
        "_begun", "_connection", "_due", "_expects_continue", "_gone", "_is_head", "_news", "_pieces", "_told", "answered",
        "closes", "left", "streams", "waiting",
    )  # fmt: skip

    def __init__(self, connection: "Http1Connection", head: Head, body: bytes) -> None:
        """`body` is what came with the head, at most as long as it said; a whole one may be taken from the scope."""
        raw_path = head.raw_path
        self.scope = {
            "type": "http",
            "asgi": ASGI,
            "http_version": "1.1",
            "method": head.method,
            "scheme": connection.scheme,
            "path": (unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path).decode("utf-8", "replace"),
            "raw_path": raw_path,
            "query_string": head.query_string,
            "headers": head.fields,
            "mainspring.headers": head.headers,
            "client": connection.peer,
            "server": None,
            WHOLE_ANSWER: True,
        }
        self.head = self.task = None
        self.left = head.body_bytes - len(body)
        self.waiting = len(body)
        """Bytes of the body that have come and nobody has read yet."""
        self.closes = head.closes
        self.answered = self.streams = self._begun = False
        self._connection = connection
        self._is_head = head.method == "HEAD"
        self._expects_continue = head.expects_continue and head.body_bytes > 0 and not body
        self._pieces: list[bytes] = [body] if body else []
        if not self.left:
            self.scope[WHOLE_BODY] = body
        self._told = self._gone = False
        self._news: asyncio.Future[None] | None = None
        self._due: int | None = None
        """How many bytes of the answer are still to go out; None for one in chunks, and for one whose head has not gone."""

    @property
    def is_full(self) -> bool:
        """Whether nothing more of the body is to be read from the socket now."""
        return self.waiting >= BODY_BYTES_WAITING_MAX

    def hear(self, data: bytes) -> bytes:
        """Takes its share of what came; gives the rest, which belongs to the next request."""
        rest = b""
        if len(data) > self.left:
            data, rest = data[: self.left], data[self.left :]
        if data:
            self.left -= len(data)
            self.waiting += len(data)
            self._pieces.append(data)
            self._expects_continue = False  # it did not wait
            self._wake()
        return rest

    def gone(self) -> None:
        self._gone = True
        self._wake()

    def done(self) -> None:
        self._connection.answered(whole=self.answered, usable=not (self.left or self.closes))

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def receive(self) -> Message:
        if self._expects_continue:
            self._expects_continue = False
            if self.left and not self._pieces:
                self._connection.write_now(CONTINUE)
        while not self._pieces:
            if self._gone or self._told:
                if not self._gone:
                    await self._wait()
                return {"type": "http.disconnect"}
            if not self.left:
                break
            await self._wait()
        body = self._pieces.pop(0) if self._pieces else b""
        self.waiting -= len(body)
        self._told = not self.left and not self._pieces
        if self.left:
            self._connection.listen()
        return {"type": "http.request", "body": body, "more_body": not self._told}

    async def _wait(self) -> None:
        self._news = self._connection.loop.create_future()
        await self._news

    async def send(self, message: Message) -> None:
        body: bytes | memoryview | None = message.get("body")
        if message["type"] == "http.response.start":
            self.head = message
            if body is None:
                return  # It goes out with the first piece of its body.
            more = False
        else:
            body = b"" if body is None else body
            more = bool(message.get("more_body"))
        if self._is_head:
            body = b""
        if self._begun:
            self._write(body, more)
        else:
            self._begin(body, more)
        if more:
            await self._streamed()

    def _begin(self, body: bytes | memoryview, more: bool) -> None:
        size = len(body)
        head = self._head_of(size, more)
        self._begun = True
        if self._due == size <= JOINED_BYTES_MAX and not more:
            self.answered = True
            self._connection.write_now(head + body if body else head)
        elif self._due is not None and size <= JOINED_BYTES_MAX:
            self._count(size, more)
            self._connection.write_now(head + body if body else head)
        else:
            self._connection.write_now(head)
            self._write(body, more)

    def _write(self, body: bytes | memoryview, more: bool) -> None:
        if self._due is not None:
            self._count(len(body), more)
            if body:
                self._connection.write_now(body)
            return
        if body:
            self._connection.write_now(b"".join((b"%x\r\n" % len(body), body, b"\r\n")))
        if not more:
            self._connection.write_now(b"0\r\n\r\n")
        self.answered = not more

    def _count(self, size: int, more: bool) -> None:
        assert self._due is not None
        self._due -= size
        if self._due < 0 or (not more and self._due):
            raise RuntimeError("the body of an answer is not as long as its head said")
        self.answered = not more

    async def _streamed(self) -> None:
        self.streams = True
        if self._gone:
            raise Disconnected
        await self._connection.written()
        # A socket that takes everything at once would otherwise let a long answer keep the loop to itself.
        await asyncio.sleep(0)

    def _head_of(self, body_bytes: int, more: bool) -> bytes:
        """The status line and headers; sets how the body is framed."""
        if self.head is None:
            raise RuntimeError("an answer begins with its head")
        status: int = self.head["status"]
        fields = self.head["headers"]
        length = None
        dated = said = False
        for name, value in fields:
            if name == b"content-length":
                length = int(value)
            elif name == b"date":
                dated = True
            elif name == b"connection" and value.lower() == b"close":
                self.closes = said = True
        connection = self._connection
        # Who waits to be told to send its body may send it all the same, or not: what follows could be read in two ways.
        if self._expects_continue or connection.finishing:
            self.closes = True
        lines = [] if dated else [connection.server.date()]
        if self.closes and not said:
            lines.append(CLOSE)
        if self._is_head or status in BODILESS:
            self._due = 0
        elif length is not None:
            self._due = length
        elif more:
            lines.append(b"transfer-encoding: chunked")
        else:
            self._due = body_bytes
            lines.append(b"content-length: %d" % body_bytes)
        return answer_head(status, fields, *lines)
