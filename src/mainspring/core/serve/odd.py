"""Requests that are not written in the plain way, and upgrades: read by h11, by which their answers are framed as well."""

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import h11

from mainspring.core.http.request import Disconnected, Message
from mainspring.core.serve.exchange import PlainExchange
from mainspring.core.serve.handshake import Refusal, asks_for_websocket, read_upgrade, refused
from mainspring.core.serve.heads import HEAD_BYTES_MAX, PHRASES
from mainspring.core.serve.sockets import SocketExchange

if TYPE_CHECKING:
    from mainspring.core.serve.http1 import Http1Connection

BODY_BYTES_WAITING_MAX = 256 << 10


class OddReader:
    """What one connection says, until all of it is answered."""

    def __init__(self, connection: "Http1Connection") -> None:
        self._connection = connection
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)

    def read(self, data: bytes) -> None:
        try:
            self._http.receive_data(data)
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint)
        else:
            self.advance()

    def advance(self) -> None:
        """Goes on with what has been read."""
        connection, http = self._connection, self._http
        try:
            while (event := http.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                exchange = connection.exchange
                if isinstance(event, h11.Request):
                    if not self._begin(event):
                        return
                elif isinstance(event, h11.ConnectionClosed):
                    connection.shut()
                    return
                elif isinstance(exchange, OddExchange):
                    if isinstance(event, h11.Data):
                        exchange.put(bytes(event.data))
                    else:
                        exchange.complete()
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint)
            return
        waiting = http.trailing_data[0] if event is h11.PAUSED else b""
        if len(waiting) > HEAD_BYTES_MAX or (connection.exchange is not None and connection.exchange.is_full):
            connection.stop_listening()
        # With nothing half read the next request may be a plain one again.
        if http.states == {h11.CLIENT: h11.IDLE, h11.SERVER: h11.IDLE} and not http.trailing_data[0]:
            connection.odd = None

    def answered(self) -> None:
        """The end of an exchange."""
        http = self._http
        whole = http.our_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED)
        usable = http.our_state is h11.DONE and http.their_state is h11.DONE
        if usable and not self._connection.finishing:
            http.start_next_cycle()
        self._connection.answered(whole=whole, usable=usable)

    def _begin(self, request: h11.Request) -> bool:
        """Begins what a head asks for; gives whether h11 reads on."""
        if asks_for_websocket(request):
            self._upgrade(request)
            return False
        if request.http_version not in (b"1.0", b"1.1"):
            self._refuse(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
            return False
        self._connection.run(OddExchange(self._connection, self, self._http, request))
        return True

    def _refuse(self, status: int) -> None:
        connection, http = self._connection, self._http
        if isinstance(connection.exchange, OddExchange):
            # What comes behind a request is no reason not to answer it; a body that breaks off is.
            connection.exchange.broke_off()
            connection.finishing = True
            connection.stop_listening()
            return
        last = b""
        if http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            head = h11.Response(status_code=status, headers=[("content-length", "0"), ("connection", "close")])
            last = (http.send(head) or b"") + (http.send(h11.EndOfMessage()) or b"")
        connection.shut(last)

    def _upgrade(self, request: h11.Request) -> None:
        """Leaves HTTP for a WebSocket; what is no proper handshake is told so."""
        connection = self._connection
        connection.odd = None
        try:
            upgrade = read_upgrade(request)
        except Refusal as refusal:
            connection.shut(refused(refusal.status, str(refusal).encode(), refusal.headers))
            return
        exchange = SocketExchange(connection, request, upgrade)
        connection.run(exchange)
        exchange.hear(self._http.trailing_data[0])


class OddExchange(PlainExchange):
    __slots__ = (
        "_complete",
        "_connection",
        "_gone",
        "_head_bytes",
        "_http",
        "_news",
        "_pieces",
        "_reader",
        "_told",
        "_waiting",
    )

    def __init__(
        self, connection: "Http1Connection", reader: OddReader, http: h11.Connection, request: h11.Request
    ) -> None:
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
        self.streams = False
        self._connection = connection
        self._reader = reader
        self._http = http
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._complete = self._told = self._gone = False
        self._head_bytes = b""
        self._news = asyncio.Event()

    @property
    def is_full(self) -> bool:
        return self._waiting >= BODY_BYTES_WAITING_MAX

    def hear(self, data: bytes) -> bytes:
        self._reader.read(data)
        return b""

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
        self._reader.answered()

    async def receive(self) -> Message:
        if self._http.they_are_waiting_for_100_continue:
            self._connection.write_now(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
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
            head = h11.Response(status_code=status, headers=fields, reason=PHRASES.get(status, ""))
            # Written with the first piece of the body, in one packet.
            self._head_bytes = self._http.send(head) or b""
            return
        data = self._head_bytes + (self._http.send(h11.Data(data=message.get("body", b""))) or b"")
        self._head_bytes = b""
        more = message.get("more_body")
        if not more:
            data += self._http.send(h11.EndOfMessage()) or b""
        self._connection.write_now(data)
        if more:
            self.streams = True
            if self._gone:
                raise Disconnected
            await self._connection.written()
            await asyncio.sleep(0)
