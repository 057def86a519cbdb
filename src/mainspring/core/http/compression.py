"""Whether an answer is worth compressing, and gzip by zlib."""

import asyncio
import re
import zlib

COMPRESSED_BYTES_MIN = 1_024
LOOP_BYTES_MAX = 32_768
"""What is longer is compressed in a thread: at some 80 MB/s this much costs the loop 0.4 ms."""
LEVEL = 4

_TEXTUAL = re.compile(
    rb"text/(?!event-stream)|image/svg\+xml|application/(?:[a-z0-9.-]+\+)?(?:json|xml|javascript|wasm|manifest)",
    re.IGNORECASE,
)
_REFUSED = re.compile(rb"gzip\s*;\s*q=0(?:\.0*)?\s*(?:,|$)")


def accepts_gzip(accept_encoding: bytes) -> bool:
    return b"gzip" in accept_encoding and not _REFUSED.search(accept_encoding)


def is_textual(content_type: bytes) -> bool:
    """Whether bytes of this type usually get smaller."""
    return _TEXTUAL.match(content_type) is not None


async def gzip(body: bytes) -> bytes:
    return _gzip(body) if len(body) <= LOOP_BYTES_MAX else await asyncio.to_thread(_gzip, body)


def _gzip(body: bytes) -> bytes:
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()
