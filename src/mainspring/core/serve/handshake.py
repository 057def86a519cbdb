"""The opening handshake of a WebSocket (RFC 6455, section 4.2), sans I/O."""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import unquote

import h11
import msgspec

HEAD_BYTES_MAX = 16 << 10
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Upgrade(msgspec.Struct, frozen=True):
    """What a client asks for. Header names are lower case."""

    path: str
    query: bytes
    headers: dict[str, str]
    key: str
    subprotocols: tuple[str, ...]


class Refusal(Exception):
    """The request is no proper handshake; `status` and `headers` answer it."""

    def __init__(self, status: int, reason: str, *headers: tuple[str, str]) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = headers


class Handshake:
    """Collects a request's head; gives the `Upgrade` once it is whole, and what followed it."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)

    def feed(self, data: bytes) -> tuple[Upgrade, bytes] | None:
        """None until the head is whole. Raises `Refusal`."""
        try:
            self._http.receive_data(data)
            request = self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise Refusal(error.error_status_hint, str(error)) from None
        if request is h11.NEED_DATA:
            return None
        if not isinstance(request, h11.Request):
            raise Refusal(400, "not a request")
        return read_upgrade(request), self._http.trailing_data[0]


def asks_for_websocket(request: h11.Request) -> bool:
    """Whether a request wants to become one, properly or not."""
    return any(name == b"upgrade" and b"websocket" in bytes(value).lower() for name, value in request.headers)


def read_upgrade(request: h11.Request) -> Upgrade:
    """Raises `Refusal`."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if request.http_version != b"1.1" or request.method != b"GET":
        raise Refusal(405, "a WebSocket begins with a GET of HTTP/1.1", ("allow", "GET"))
    if "websocket" not in _tokens(headers, "upgrade") or "upgrade" not in _tokens(headers, "connection"):
        raise Refusal(426, "this address speaks WebSocket", ("upgrade", "websocket"), ("connection", "upgrade"))
    if headers.get("sec-websocket-version") != "13":
        raise Refusal(426, "this server speaks version 13", ("sec-websocket-version", "13"))
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise Refusal(400, "a handshake has no body")
    key = headers.get("sec-websocket-key", "")
    try:
        if len(base64.b64decode(key, validate=True)) != 16:
            raise Refusal(400, "the key must have 16 bytes")
    except (binascii.Error, ValueError):
        raise Refusal(400, "the key is not base64") from None
    path, _, query = request.target.partition(b"?")
    offered = tuple(filter(None, (part.strip() for part in headers.get("sec-websocket-protocol", "").split(","))))
    return Upgrade(unquote(path.decode("latin-1")), bytes(query), headers, key, offered)


def accepted(upgrade: Upgrade, subprotocol: str | None = None, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """The answer that opens the socket."""
    # SHA-1 is the standard's choice; it guards nothing.
    token = base64.b64encode(hashlib.sha1(upgrade.key.encode() + _GUID, usedforsecurity=False).digest()).decode()
    lines = [("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", token), *headers]
    if subprotocol is not None:
        lines.append(("sec-websocket-protocol", subprotocol))
    return _head(101, lines)


def refused(status: int, body: bytes = b"", headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """The answer that does not; the connection is closed after it."""
    return _head(status, [*headers, ("content-length", str(len(body))), ("connection", "close")]) + body


def _head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _tokens(headers: dict[str, str], name: str) -> set[str]:
    return {token.strip().lower() for token in headers.get(name, "").split(",")}
