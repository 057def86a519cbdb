"""Cutting a stream of bytes into requests: an int32 length, then so many bytes. Sans I/O.

All connections receive into one shared block of memory, because a loop reads one socket at a time: what is whole is copied
out of it at once, so that an idle connection owns no buffer. Only a frame that is larger than the block gets memory of its
own, into which the socket is then read directly; pages of it that were never received are never touched.
"""

import struct
from typing import Final

SHARED_BYTES: Final = 256 * 1024
_LENGTH = struct.Struct(">i")


class Frames:
    """The receiving half of one connection. `room()` says where to receive, `received(n)` gives the frames that are whole.

    A length below zero or above the limit gives one last, empty frame: nothing after it can be trusted, and what came before
    it still counts.
    """

    __slots__ = ("_ended", "_filled", "_large", "_shared", "_tail", "frame_bytes_max")

    def __init__(self, shared: memoryview, frame_bytes_max: int) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._shared = shared
        self._tail = b""
        self._large: bytearray | None = None
        self._filled = 0
        self._ended = False

    def room(self) -> memoryview:
        """Where the next bytes go; valid until the loop turns to another connection."""
        if self._large is not None:
            return memoryview(self._large)[self._filled :]
        tail = self._tail
        if not tail:
            return self._shared
        self._shared[: len(tail)] = tail
        return self._shared[len(tail) :]

    def received(self, count: int) -> list[memoryview]:
        """The frames that `count` more bytes complete, without their lengths."""
        if self._ended:
            return []
        large = self._large
        if large is not None:
            self._filled += count
            if self._filled < len(large):
                return []
            self._large = None
            return [memoryview(large).toreadonly()]
        end = len(self._tail) + count
        shared, frames, at = self._shared, list[memoryview](), 0
        while end - at >= 4:
            (length,) = _LENGTH.unpack_from(shared, at)
            if length < 0 or length > self.frame_bytes_max:
                self._ended, self._tail = True, b""
                frames.append(memoryview(b""))
                return frames
            after = at + 4 + length
            if after > end:
                if 4 + length > len(shared):
                    self._begin_large(length, shared[at + 4 : end])
                    at = end
                break
            frames.append(memoryview(bytes(shared[at + 4 : after])))
            at = after
        self._tail = bytes(shared[at:end]) if at < end else b""
        return frames

    def _begin_large(self, length: int, first: memoryview) -> None:
        self._large = bytearray(length)
        self._filled = len(first)
        memoryview(self._large)[: len(first)] = first
