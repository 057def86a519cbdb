"""A client of the bare protocol: requests as fields, of any version, well-formed or not."""

import socket
import struct
from functools import cache
from types import TracebackType
from typing import Any

from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader

from mainspring.storage.log.kafka import codec
from mainspring.storage.log.kafka.registry import ApiKey
from mainspring.storage.log.kafka.writing import entity_writer

PATIENCE_S = 60.0


@cache
def _writer(key: int, version: int) -> Any:
    return entity_writer(load_request_schema(key, version))


def head(key: int, version: int, correlation_id: int = 1, client: bytes | None = b"wire") -> bytes:
    """A header up to the client's id."""
    out = struct.pack(">hhi", key, version, correlation_id)
    return out + (b"\xff\xff" if client is None else struct.pack(">h", len(client)) + client)


def framed(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def request(key: int, version: int, correlation_id: int = 1, /, **fields: Any) -> bytes:
    """A whole frame. Fields have kio's names, durations `_ms`."""
    out = bytearray(head(key, version, correlation_id))
    if codec.is_flexible(key, version):
        out.append(0)
    _writer(key, version)(out, fields)
    return framed(bytes(out))


def answer_of(key: int, version: int, frame: bytes) -> tuple[int, Any]:
    """The correlation id and the entity of an answer without its length; it must be read to its last byte."""
    (correlation_id,) = struct.unpack_from(">i", frame)
    at = 5 if key != ApiKey.API_VERSIONS and codec.is_flexible(key, version) else 4
    entity, size = entity_reader(load_response_schema(key, version))(frame, at)
    assert at + size == len(frame), f"{len(frame) - at - size} bytes are left over"
    return correlation_id, entity


class Wire:
    """A blocking connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    @property
    def socket(self) -> socket.socket:
        return self._socket

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def call(self, key: int, version: int, /, **fields: Any) -> Any:
        """One request and its answer."""
        self.send(request(key, version, 7, **fields))
        correlation_id, entity = answer_of(key, version, self.frame())
        assert correlation_id == 7
        return entity

    def frame(self) -> bytes:
        """The next answer. Raises `EOFError` where the server closed."""
        return self._exactly(struct.unpack(">i", self._exactly(4))[0])

    def is_closed(self) -> bool:
        """Waits until the server closes; an answer instead is an error."""
        try:
            data = self._socket.recv(1)
        except ConnectionError:
            return True
        assert not data, "there was an answer"
        return True

    def _exactly(self, size: int) -> bytes:
        out = bytearray()
        while len(out) < size:
            data = self._socket.recv(size - len(out))
            if not data:
                raise EOFError
            out += data
        return bytes(out)
