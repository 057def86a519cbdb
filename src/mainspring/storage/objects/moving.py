"""`mainspring move blobs`: every blob of a bucket to an S3, each read back and compared; nothing here is changed.

Running it again goes on where it was: what lies over there with the same bytes is not sent again.
"""

import hashlib
from collections.abc import AsyncIterator, Callable

import msgspec

from mainspring.core.ports import Blobs
from mainspring.core.problems import Problem

Progress = Callable[[int], None]
"""Called with the bytes done so far."""


class Differs(Problem):
    status, type, title = 500, "objects/move-differs", "What was moved reads back differently"


class Moved(msgspec.Struct):
    blobs: int = 0
    sent: int = 0
    size_bytes: int = 0


async def total_bytes(source: Blobs) -> int:
    """What a move has to do."""
    total, after = 0, ""
    while True:
        page = await source.list(after=after)
        total += sum(blob.size for blob in page.blobs)
        if page.next is None:
            return total
        after = page.next


async def move(source: Blobs, target: Blobs, progress: Progress) -> Moved:
    """Copies and verifies. Raises `Differs`, or what either side raises; then some blobs are over there already."""
    moved, after = Moved(), ""
    while True:
        page = await source.list(after=after)
        for listed in page.blobs:
            if not await _same(source, target, listed.name, listed.size):
                blob = await source.head(listed.name)
                body = source.stream(listed.name)
                await target.put(listed.name, body, blob.content_type, metadata=blob.metadata)
                moved.sent += 1
                if not await _same(source, target, listed.name, listed.size):
                    raise Differs(f"{listed.name} reads back differently from the target")
            moved.blobs += 1
            moved.size_bytes += listed.size
            progress(moved.size_bytes)
        if page.next is None:
            return moved
        after = page.next


async def _same(source: Blobs, target: Blobs, name: str, size: int) -> bool:
    try:
        if (await target.head(name)).size != size:
            return False
        return await _digest(source.stream(name)) == await _digest(target.stream(name))
    except KeyError:
        return False


async def _digest(body: AsyncIterator[bytes]) -> bytes:
    digest = hashlib.sha256()
    async for chunk in body:
        digest.update(chunk)
    return digest.digest()
