"""A WebSocket on a connection of ours, as ASGI sees one: for the consoles on the main port.

Frames are read and written by `frames`. Unread messages stop the reading of the connection; `send` waits while too much is
unsent. Pings are answered; asking for signs of life is the application's (`wire.websocket`).
"""

import asyncio
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import h11

from mainspring.core.http.request import Disconnected, Message
from mainspring.core.serve import frames
from mainspring.core.serve.exchange import PlainExchange
from mainspring.core.serve.frames import ABNORMAL, CLOSE, GOING_AWAY, NORMAL, PING, PONG, Reader
from mainspring.core.serve.handshake import Upgrade, accepted, refused

if TYPE_CHECKING:
    from mainspring.core.serve.http1 import Http1Connection

MESSAGE_BYTES_MAX = 1 << 20
"""Of one message; what a page sends has a lower limit of its own."""
UNREAD_MAX = 16
EARLY_BYTES_MAX = 64 << 10
"""How much a client may send before its handshake is answered."""
CLOSE_S = 5.0
"""How long a client may take for its part in closing."""


class SocketExchange(PlainExchange):
    """From its handshake on. A handler whose client has left hears so, and is not cancelled."""

    __slots__ = ("_connection", "_early", "_ended", "_news", "_reader", "_started", "_unread", "_upgrade", "streams")

    def __init__(self, connection: "Http1Connection", request: h11.Request, upgrade: Upgrade) -> None:
        raw_path, _, query = bytes(request.target).partition(b"?")
        self.scope = {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "ws" if connection.scheme == "http" else "wss",
            "path": unquote_to_bytes(raw_path).decode("utf-8", "replace"),
            "raw_path": raw_path,
            "query_string": query,
            "headers": [(bytes(name), bytes(value)) for name, value in request.headers],
            "subprotocols": list(upgrade.subprotocols),
            "client": connection.peer,
            "server": None,
            "extensions": {"websocket.http.response": {}},
        }
        self.head = self.task = None
        self.streams = False
        self._connection = connection
        self._upgrade = upgrade
        self._reader: Reader | None = None
        self._early = b""
        self._unread: deque[Message] = deque([{"type": "websocket.connect"}])
        self._ended: Message | None = None
        """The disconnect, once there is one."""
        self._news: asyncio.Future[None] | None = None

    @property
    def is_full(self) -> bool:
        return len(self._unread) >= UNREAD_MAX or len(self._early) >= EARLY_BYTES_MAX

    def hear(self, data: bytes) -> bytes:
        """Takes what came; nothing is left of it for others."""
        if self._reader is None:
            self._early += data
        else:
            for event in self._reader.feed(data):
                self._take(event)
        return b""

    def gone(self) -> None:
        self._end(ABNORMAL, "")

    def done(self) -> None:
        """The connection stays with this exchange until it is lost: nothing else is spoken on it any more."""
        if self.head is None:
            self._shut(refused(HTTPStatus.FORBIDDEN))
        else:
            self.close(NORMAL)

    async def receive(self) -> Message:
        while not self._unread:
            if self._ended is not None:
                return self._ended
            self._news = self._connection.loop.create_future()
            await self._news
        message = self._unread.popleft()
        self._connection.listen()
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.send":
            if self._reader is None or self._ended is not None:
                raise Disconnected
            text = message.get("text")
            self._connection.write_now(frames.message(message["bytes"] if text is None else text))
            await self._connection.written()
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            if self.head is None:
                self.head = message
                self._shut(refused(HTTPStatus.FORBIDDEN))
            else:
                self.close(message.get("code", NORMAL), message.get("reason") or "")
        elif kind == "websocket.http.response.start":
            self.head = message
        else:
            assert self.head is not None, "a refusal begins with its head"
            fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.head["headers"]]
            self._shut(refused(self.head["status"], message.get("body", b""), fields))

    def end_if_endless(self) -> None:
        self.close(GOING_AWAY, "the server is stopping")

    def close(self, code: int, reason: str = "") -> None:
        """Sends our closing frame, unless there was one, and gives the client a moment for its own."""
        if self._reader is not None and self._ended is None:
            self._connection.write_now(frames.closing(code, reason))
            self._end(code, reason)
            self._connection.close_within(CLOSE_S)

    def _accept(self, message: Message) -> None:
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.get("headers", ())]
        self._connection.write_now(accepted(self._upgrade, message.get("subprotocol"), fields))
        self.head = message
        self._reader = Reader(MESSAGE_BYTES_MAX)
        early, self._early = self._early, b""
        if early:
            self.hear(early)
        self._connection.listen()

    def _take(self, event: frames.Received | frames.Violation) -> None:
        if isinstance(event, frames.Violation):
            self.close(event.code, event.reason)
            self._connection.shut()
        elif event.opcode == CLOSE:
            self.close(*event.data)
            self._connection.shut()
        elif self._ended is not None or event.opcode == PONG:
            return
        elif event.opcode == PING:
            self._connection.write_now(frames.frame(PONG, event.data))
        else:
            kind = "text" if isinstance(event.data, str) else "bytes"
            self._unread.append({"type": "websocket.receive", kind: event.data})
            self._wake()

    def _end(self, code: int, reason: str) -> None:
        if self._ended is None:
            self._ended = {"type": "websocket.disconnect", "code": code, "reason": reason}
            self._wake()

    def _shut(self, answer: bytes) -> None:
        """Refuses the handshake."""
        self._end(ABNORMAL, "")
        self._connection.shut(answer)

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
