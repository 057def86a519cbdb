"""Bodies of `aws-chunked`: chunks with a size each, signed or not, and at the end perhaps trailing headers.

    10000;chunk-signature=…\r\n<65,536 bytes>\r\n … 0;chunk-signature=…\r\n
    x-amz-checksum-crc32c:…\r\nx-amz-trailer-signature:…\r\n\r\n

A decoder touches no socket: pieces of a request's body go in by `feed`, pieces of the content come out as they arrive,
before their chunk's signature has been seen. So whoever stores them must make nothing visible before `finished`; at the
first chunk whose signature is wrong, `feed` raises. Each signature covers the one before, so none can be left out, doubled or
moved. Sizes of lines, of chunks and of the whole are bounded.
"""

import hmac
import re
from hashlib import sha256

from mainspring.wire.aws.errors import IncompleteBody, InvalidChunkSize, MalformedTrailer, SignatureDoesNotMatch
from mainspring.wire.aws.sigv4 import EMPTY_SHA256, Seed

LINE_BYTES_MAX = 4_096
TRAILERS_MAX = 16
TRAILER_SIGNATURE = "x-amz-trailer-signature"

_SIZE = re.compile(rb"([0-9a-fA-F]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?")

SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
FORMS = frozenset({SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER})
"""What `x-amz-content-sha256` says of a body in chunks."""


class ChunkedDecoder:
    """`form` is one of `FORMS`; `seed` is the request's signature; `size_bytes` is the length of the content.

    After `finished`, `trailers` has the trailing headers by lower-case name.
    """

    def __init__(self, form: str, seed: Seed | None, size_bytes: int) -> None:
        if form not in FORMS or (form != UNSIGNED_TRAILER and seed is None):
            raise ValueError(f"{form} needs the signature of its request")
        self.finished = False
        self.trailers: dict[str, str] = {}
        self._seed = seed if form != UNSIGNED_TRAILER else None
        self._trailed = form != SIGNED
        self._previous = seed.signature if seed else ""
        self._size_bytes = size_bytes
        self._seen_bytes = 0
        self._line = bytearray()
        self._read = self._read_size
        self._left = 0
        self._signature = ""
        self._hash = sha256()
        self._trailer_text = bytearray()

    def feed(self, data: bytes) -> list[memoryview]:
        """Takes the next piece of the body and gives the content in it.

        Raises `SignatureDoesNotMatch`, `IncompleteBody` for what is no chunk or more content than was announced,
        `InvalidChunkSize` and `MalformedTrailer`.
        """
        view = memoryview(data)
        content: list[memoryview] = []
        at = 0
        while at < len(view):
            if self.finished:
                raise IncompleteBody("There is more after the last chunk")
            if self._left:
                piece = view[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                if self._seed is not None:
                    self._hash.update(piece)
                content.append(piece)
                if not self._left:
                    self._end_chunk()
                continue
            end = data.find(b"\n", at)
            stop = len(view) if end < 0 else end + 1
            self._line += view[at:stop]
            if len(self._line) > LINE_BYTES_MAX:
                raise IncompleteBody("A line between two chunks is too long")
            at = stop
            if end >= 0:
                line, self._line = bytes(self._line), bytearray()
                self._read(line)
        return content

    def end(self) -> None:
        """Says that the body has ended. Raises `IncompleteBody` where something is missing."""
        if not self.finished and self._read == self._read_trailer and not self._line and self._may_end():
            self._end_trailers()
        if not self.finished or self._seen_bytes != self._size_bytes:
            raise IncompleteBody

    def _may_end(self) -> bool:
        """Some clients leave the empty line after the last trailer out."""
        return bool(self.trailers) or self._seed is None

    def _read_size(self, line: bytes) -> None:
        found = _SIZE.fullmatch(line.removesuffix(b"\n").removesuffix(b"\r").rstrip())
        if found is None:
            raise IncompleteBody("There is no chunk where one should begin")
        size = int(found[1], 16)
        if self._seen_bytes + size > self._size_bytes:
            raise IncompleteBody("The chunks hold more than x-amz-decoded-content-length says")
        if self._seed is not None:
            if found[2] is None:
                raise SignatureDoesNotMatch("A chunk is not signed")
            self._signature = found[2].decode()
        self._seen_bytes += size
        self._left = size
        self._read = self._read_end
        if not size:
            self._end_chunk()
            self._read = self._read_trailer if self._trailed else self._read_last

    def _read_end(self, line: bytes) -> None:
        if line not in (b"\r\n", b"\n"):
            raise InvalidChunkSize("A chunk is longer than its size says")
        self._read = self._read_size

    def _read_last(self, line: bytes) -> None:
        if line not in (b"\r\n", b"\n"):
            raise IncompleteBody("There is more after the last chunk")
        self.finished = True

    def _end_chunk(self) -> None:
        seed = self._seed
        if seed is None:
            return
        text = (
            f"AWS4-HMAC-SHA256-PAYLOAD\n{seed.date}\n{seed.scope}\n{self._previous}\n"
            f"{EMPTY_SHA256}\n{self._hash.hexdigest()}"
        )
        self._must_be(seed, text, self._signature)
        self._hash = sha256()

    def _must_be(self, seed: Seed, text: str, signature: str) -> None:
        expected = hmac.digest(seed.key, text.encode(), "sha256").hex()
        if not hmac.compare_digest(expected, signature):
            raise SignatureDoesNotMatch("The signature of a chunk is wrong")
        self._previous = expected

    def _read_trailer(self, line: bytes) -> None:
        text = line.removesuffix(b"\n").removesuffix(b"\r")
        if not text:
            if not self.trailers and not self._trailer_text and self._seed is not None:
                raise MalformedTrailer("The trailing headers are missing")
            self._end_trailers()
            return
        name_bytes, colon, value_bytes = text.partition(b":")
        if not colon or len(self.trailers) >= TRAILERS_MAX:
            raise MalformedTrailer
        try:
            name, value = name_bytes.decode().strip().lower(), value_bytes.decode().strip()
        except UnicodeDecodeError:
            raise MalformedTrailer from None
        if name in self.trailers:
            raise MalformedTrailer
        self.trailers[name] = value
        if name != TRAILER_SIGNATURE:
            self._trailer_text += f"{name}:{value}\n".encode()

    def _end_trailers(self) -> None:
        signature = self.trailers.pop(TRAILER_SIGNATURE, "")
        if (seed := self._seed) is not None:
            hashed = sha256(self._trailer_text).hexdigest()
            text = f"AWS4-HMAC-SHA256-TRAILER\n{seed.date}\n{seed.scope}\n{self._previous}\n{hashed}"
            self._must_be(seed, text, signature)
        self.finished = True
