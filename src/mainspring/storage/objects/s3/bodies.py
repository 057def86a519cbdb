"""A request's body as content: taken out of its chunks, bounded in size and time, held against every hash it came with.

Whatever was promised of the content (its length, its SHA-256, a checksum in the trailer) is checked before the iterator ends.
So whoever stores what comes, and makes it visible only after the end, has stored nothing that is wrong. A checksum in the
header is the engine's to compare, which computes it anyway.
"""

import asyncio
import hmac
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

from mainspring.core.http.request import Disconnected, Receive
from mainspring.storage.objects.checksums import ALGORITHMS, CRCS, HASHES
from mainspring.storage.objects.model import Checksum
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.wire.aws.chunked import FORMS, ChunkedDecoder
from mainspring.wire.aws.errors import ContentHashMismatch, IncompleteBody, MalformedTrailer
from mainspring.wire.aws.sigv4 import UNSIGNED, Seed

SILENCE_S_MAX = 60.0
WHOLE_BYTES_MAX = 128 << 10
"""Bodies up to this size are read whole: an iterator would cost more than the bytes."""
HEADERS = {f"x-amz-checksum-{name.lower()}": name for name in ALGORITHMS}
_HEADERS = [(header.encode(), name) for header, name in HEADERS.items()]

Piece = bytes | memoryview


class Body:
    """Read once. `size_bytes` is the length of the content, None where the client did not say.

    `wish` is the checksum that the content shall have (in the header) or that shall be computed of it; `trailing` says that
    the client sends it behind the content. Raises `InvalidRequest`, `InvalidArgument` and `MissingContentLength` for
    headers that cannot be right.
    """

    def __init__(self, headers: dict[bytes, bytes], receive: Receive, seed: Seed | None, declared_sha256: str) -> None:
        self._receive = receive
        self._decoder: ChunkedDecoder | None = None
        self._sha256 = ""
        self._trailer = ""
        self.size_bytes = _number(headers.get(b"content-length"))
        if declared_sha256 in FORMS:
            self.size_bytes = _number(headers.get(b"x-amz-decoded-content-length"))
            if self.size_bytes is None:
                raise S3Error("MissingContentLength")
            self._decoder = ChunkedDecoder(declared_sha256, seed, self.size_bytes)
        elif declared_sha256 != UNSIGNED:
            self._sha256 = declared_sha256
        self.wish = self._read_wish(headers)

    @property
    def trailing(self) -> bool:
        return self._trailer != ""

    def _read_wish(self, headers: dict[bytes, bytes]) -> Checksum | None:
        given = [(name, headers[header].decode("latin-1")) for header, name in _HEADERS if header in headers]
        if len(given) > 1:
            raise S3Error(
                "InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
            )
        trailer = headers.get(b"x-amz-trailer", b"").decode("latin-1").strip().lower()
        if trailer:
            if trailer not in HEADERS or self._decoder is None or given:
                raise S3Error("InvalidRequest", "The value specified in the x-amz-trailer header is not supported")
            self._trailer = trailer
            return Checksum(HEADERS[trailer])
        named = (
            headers.get(b"x-amz-sdk-checksum-algorithm") or headers.get(b"x-amz-checksum-algorithm") or b""
        ).decode("latin-1")
        if named and named.upper() not in ALGORITHMS:
            raise S3Error(
                "InvalidRequest",
                "Checksum algorithm provided is unsupported. Please try again with any of the valid types: "
                "[CRC32, CRC32C, CRC64NVME, SHA1, SHA256]",
            )
        if given:
            name, value = given[0]
            if not _well_formed(name, value):
                raise S3Error("InvalidRequest", f"Value for x-amz-checksum-{name.lower()} header is invalid.")
            return Checksum(name, value)
        return Checksum(named.upper()) if named else None

    async def content(self, at_hand: bytes | None = None) -> Piece | AsyncIterator[Piece]:
        """The content: as bytes where it is small, else an iterator over it. `at_hand` is the body where all of it has come
        already. Raises what `pieces` raises."""
        size = self.size_bytes
        if at_hand is not None and self._decoder is None and len(at_hand) == size and size <= WHOLE_BYTES_MAX:
            self._check(at_hand)
            return at_hand
        if size is None or size > WHOLE_BYTES_MAX:
            return self.pieces()
        if size == 0 and self._decoder is None:
            self._check(b"")
            return b""
        if self._decoder is None:
            message = await self._message()
            data: bytes = message.get("body", b"") if message["type"] == "http.request" else b""
            if len(data) == size:
                self._check(data)
                return data
            return b"".join([piece async for piece in self.pieces(data, message)])
        return b"".join([piece async for piece in self.pieces()])

    async def whole(self, bytes_max: int) -> bytes:
        """All of it. Raises `MalformedXML` for more than `bytes_max`, since only documents are read whole."""
        if self.size_bytes is not None and self.size_bytes > bytes_max:
            raise S3Error("MalformedXML", f"The body has at most {bytes_max:,} bytes")
        pieces, seen = [], 0
        async for piece in self.pieces():
            seen += len(piece)
            if seen > bytes_max:
                raise S3Error("MalformedXML", f"The body has at most {bytes_max:,} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def pieces(self, first: bytes = b"", message: Any = None) -> AsyncIterator[Piece]:
        """The content as it arrives, after a `first` piece that came with `message`.

        Raises `IncompleteBody`, `XAmzContentSHA256Mismatch`, `BadDigest`, `SignatureDoesNotMatch` at the chunk that is
        wrong, and `RequestTimeout` after 60 s without a byte.
        """
        decoder, expected = self._decoder, self.size_bytes
        hashed = sha256() if self._sha256 else None
        summed = Sum(HEADERS[self._trailer]) if self._trailer else None
        seen = received = 0
        more = expected != 0 or decoder is not None
        while more:
            if message is None:
                message = await self._message()
                first = message.get("body", b"")
            if message["type"] != "http.request":
                # A client that has sent all of it, but says nothing more, has ended the body by leaving.
                if expected is not None and seen < expected:
                    raise IncompleteBody
                raise Disconnected
            more = message.get("more_body", False)
            message = None
            received += len(first)
            for piece in decoder.feed(first) if decoder is not None else (first,):
                if not piece:
                    continue
                seen += len(piece)
                if expected is not None and seen > expected:
                    raise IncompleteBody
                if hashed is not None:
                    hashed.update(piece)
                if summed is not None:
                    summed.update(piece)
                yield piece
            if decoder is None and seen == expected:
                break
        if decoder is not None:
            decoder.end()
        if expected is not None and seen != expected:
            raise IncompleteBody
        if hashed is not None and not hmac.compare_digest(hashed.hexdigest(), self._sha256):
            raise ContentHashMismatch
        if summed is not None and decoder is not None:
            self._check_trailer(summed, decoder)

    async def _message(self) -> Any:
        try:
            async with asyncio.timeout(SILENCE_S_MAX):
                return await self._receive()
        except TimeoutError:
            raise S3Error("RequestTimeout", headers=(("connection", "close"),)) from None

    def _check(self, data: bytes) -> None:
        if self._sha256 and not hmac.compare_digest(sha256(data).hexdigest(), self._sha256):
            raise ContentHashMismatch

    def _check_trailer(self, summed: "Sum", decoder: ChunkedDecoder) -> None:
        name = HEADERS[self._trailer]
        value = decoder.trailers.get(self._trailer)
        if value is None or not _well_formed(name, value):
            raise MalformedTrailer
        if not hmac.compare_digest(summed.text(), value):
            raise S3Error("BadDigest", f"The {name} you specified did not match the calculated checksum.")


class Sum:
    """One checksum of bytes that come in order."""

    def __init__(self, algorithm: str) -> None:
        self._crc = self._length = 0
        self._function: Any = None
        self._hash: Any = None
        if algorithm in CRCS:
            self._function, _, self._length = CRCS[algorithm]
        else:
            self._hash = HASHES[algorithm][0]()

    def update(self, piece: Piece) -> None:
        if self._function is not None:
            self._crc = self._function(piece, self._crc)
        else:
            self._hash.update(piece)

    def text(self) -> str:
        """Base64, as headers carry it."""
        return b64encode(
            self._crc.to_bytes(self._length, "big") if self._hash is None else self._hash.digest()
        ).decode()


def content_md5(headers: dict[bytes, bytes]) -> bytes | None:
    """What `Content-MD5` says. Raises `InvalidDigest` for what is no MD5."""
    given = headers.get(b"content-md5")
    if given is None:
        return None
    digest = _decoded(given.decode("latin-1"))
    if len(digest) != 16:
        raise S3Error("InvalidDigest")
    return digest


def _well_formed(algorithm: str, value: str) -> bool:
    length = CRCS[algorithm][2] if algorithm in CRCS else HASHES[algorithm][1]
    return len(_decoded(value)) == length


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (Base64Error, ValueError):
        return b""


def _number(text: bytes | None) -> int | None:
    if text is None:
        return None
    if not text.isdigit() or len(text) > 18:
        raise S3Error("InvalidArgument", "A length is not a number")
    return int(text)
