"""WebSocket frames (RFC 6455, section 5), sans I/O: bytes in, messages out, for the side of a server.

A `Reader` takes bytes however they were cut and gives whole messages and control frames. It holds nothing between frames, so
an idle connection costs no buffer. A peer that breaks the protocol gets one `Violation`, with the close code to answer, and is
heard no more. Extensions (compression) are not offered, so that every reserved bit must be 0.
"""

import codecs
import struct
from typing import Any, Final

import msgspec

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
NORMAL, GOING_AWAY, PROTOCOL_ERROR, INVALID_DATA, POLICY, TOO_BIG, INTERNAL, TRY_LATER = (
    1000, 1001, 1002, 1007, 1008, 1009, 1011, 1013,
)  # fmt: skip
NO_CODE: Final = 1005
ABNORMAL: Final = 1006
CONTROL_BYTES_MAX = 125
_BLOCK = 8192


class Received(msgspec.Struct, frozen=True):
    """A whole message or a control frame: `data` is str for TEXT, bytes for BINARY, PING and PONG, and `(code, reason)` for
    CLOSE (`NO_CODE` where the frame had none)."""

    opcode: int
    data: Any


class Violation(msgspec.Struct, frozen=True):
    """The peer broke the protocol: close with this code."""

    code: int
    reason: str


class _Broken(Exception):
    def __init__(self, code: int, reason: str) -> None:
        self.violation = Violation(code, reason)


class Reader:
    """The receiving half of one connection. `message_bytes_max` bounds a message, however many frames it comes in."""

    __slots__ = ("_decoder", "_ended", "_kind", "_message_bytes_max", "_parts", "_pending", "_size")

    def __init__(self, message_bytes_max: int) -> None:
        self._message_bytes_max = message_bytes_max
        self._pending: bytearray | None = None
        self._kind = CONTINUATION
        self._parts: list[Any] | None = None
        self._decoder: codecs.IncrementalDecoder | None = None
        self._size = 0
        self._ended = False

    def feed(self, data: bytes) -> list[Received | Violation]:
        """What these bytes complete. After a CLOSE or a `Violation`, its last item, everything is ignored."""
        events: list[Received | Violation] = []
        if self._ended:
            return events
        pending = self._pending
        if pending is not None:
            pending += data
            buffer: bytes | bytearray = pending
        else:
            buffer = data
        at = 0
        try:
            while not self._ended and (frame := self._frame(buffer, at)) is not None:
                fin, opcode, payload, at = frame
                received = self._take(fin, opcode, payload)
                if received is not None:
                    events.append(received)
                    self._ended = opcode == CLOSE
        except _Broken as broken:
            events.append(broken.violation)
            self._ended = True
        if self._ended or at == len(buffer):
            self._pending = None
        elif pending is None:
            self._pending = bytearray(memoryview(buffer)[at:])
        else:
            del pending[:at]
        return events

    def _frame(self, buffer: bytes | bytearray, at: int) -> tuple[bool, int, bytes, int] | None:
        """The frame that begins at `at`, and where the next one does; None where it is not all there yet. What can be
        refused is refused before its payload is waited for."""
        held = len(buffer) - at
        if held < 2:
            return None
        first, second = buffer[at], buffer[at + 1]
        opcode = first & 0x0F
        if first & 0x70:
            raise _Broken(PROTOCOL_ERROR, "a reserved bit is set")
        if opcode > BINARY and opcode not in (CLOSE, PING, PONG):
            raise _Broken(PROTOCOL_ERROR, "a reserved opcode")
        if not second & 0x80:
            raise _Broken(PROTOCOL_ERROR, "a client's frame is not masked")
        fin = bool(first & 0x80)
        length = second & 0x7F
        start = 2
        if opcode >= CLOSE:
            if not fin or length > CONTROL_BYTES_MAX:
                raise _Broken(PROTOCOL_ERROR, "a control frame is fragmented or too long")
        else:
            if (opcode == CONTINUATION) != (self._kind != CONTINUATION):
                raise _Broken(PROTOCOL_ERROR, "a continuation of nothing, or a message within a message")
            if length >= 126:
                start = 4 if length == 126 else 10
                if held < start:
                    return None
                wide = length
                length = int.from_bytes(buffer[at + 2 : at + start], "big")
                if length < (126 if wide == 126 else 65536):
                    raise _Broken(PROTOCOL_ERROR, "a length is written longer than it need be")
            if self._size + length > self._message_bytes_max:
                raise _Broken(TOO_BIG, f"a message may have at most {self._message_bytes_max} bytes")
        start += at
        end = start + 4 + length
        if len(buffer) < end:
            return None
        return fin, opcode, unmask(bytes(buffer[start + 4 : end]), bytes(buffer[start : start + 4])), end

    def _take(self, fin: bool, opcode: int, payload: bytes) -> Received | None:
        if opcode == CLOSE:
            return Received(CLOSE, _closing(payload))
        if opcode > CLOSE:
            return Received(opcode, payload)
        try:
            if fin and opcode:
                return Received(opcode, payload.decode() if opcode == TEXT else payload)
            return self._continue(fin, opcode, payload)
        except UnicodeDecodeError:
            raise _Broken(INVALID_DATA, "a text is not UTF-8") from None

    def _continue(self, fin: bool, opcode: int, payload: bytes) -> Received | None:
        """A fragment. A text is decoded as it comes, so that what is no UTF-8 is known at its first wrong fragment."""
        if opcode:
            self._kind, self._parts = opcode, []
            self._decoder = codecs.getincrementaldecoder("utf-8")() if opcode == TEXT else None
        assert self._parts is not None
        self._size += len(payload)
        part = payload if self._decoder is None else self._decoder.decode(payload, fin)
        if part:
            self._parts.append(part)
        if not fin:
            return None
        kind, parts = self._kind, self._parts
        self._kind, self._parts, self._decoder, self._size = CONTINUATION, None, None, 0
        return Received(kind, ("" if kind == TEXT else b"").join(parts))


def unmask(payload: bytes, key: bytes) -> bytes:
    """The payload XOR its 4-byte key (section 5.3): long integers do it at some 300 MB/s, block by block."""
    if len(payload) <= _BLOCK:
        length = len(payload)
        pad = (key * ((length >> 2) + 1))[:length]
        return (int.from_bytes(payload, "little") ^ int.from_bytes(pad, "little")).to_bytes(length, "little")
    return b"".join([unmask(payload[at : at + _BLOCK], key) for at in range(0, len(payload), _BLOCK)])


def frame(opcode: int, payload: bytes) -> bytes:
    """A whole, unmasked frame, as a server sends it."""
    length = len(payload)
    if length < 126:
        return bytes((0x80 | opcode, length)) + payload
    if length < 65536:
        return struct.pack("!BBH", 0x80 | opcode, 126, length) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, length) + payload


def message(data: str | bytes) -> bytes:
    """A text or a binary message as one frame."""
    return frame(TEXT, data.encode()) if isinstance(data, str) else frame(BINARY, data)


def closing(code: int, reason: str = "") -> bytes:
    """A CLOSE frame; the reason is cut to what fits. `NO_CODE` makes an empty one."""
    if code == NO_CODE:
        return frame(CLOSE, b"")
    text = reason.encode()[: CONTROL_BYTES_MAX - 2].decode(errors="ignore")
    return frame(CLOSE, code.to_bytes(2, "big") + text.encode())


def _closing(payload: bytes) -> tuple[int, str]:
    if not payload:
        return NO_CODE, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise _Broken(PROTOCOL_ERROR, "a close code that may not be sent")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise _Broken(INVALID_DATA, "a closing reason is not UTF-8") from None
