"""Taking a body in: from chunks of any size to stripes or one entry of a shared page, in bounded memory.

While one stripe is hashed, encrypted, encoded and written by threads, the next is read from the socket; so a body of any
size holds at most two stripes and their shards. Bodies beyond the size of a page's entry take one of a limited number of
lanes; whoever waits too long for one is told to slow down.
"""

import asyncio
from collections.abc import AsyncIterable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
from awscrt.checksums import crc32c  # type: ignore[import-untyped]

from mainspring.storage.objects.checksums import Digests
from mainspring.storage.objects.encryption import Sealer
from mainspring.storage.objects.erasure import Profile
from mainspring.storage.objects.errors import EntityTooLarge, IncompleteBody, SlowDown
from mainspring.storage.objects.model import Piece
from mainspring.storage.objects.settings import ObjectsSettings
from mainspring.storage.objects.stripes import StripeStore, Written

T = TypeVar("T")
Chunk = bytes | bytearray | memoryview
Body = Chunk | AsyncIterable[Chunk]

HERE_BYTES_MAX = 16 << 10
"""Bodies up to this size are hashed on the event loop: a thread would take longer."""


class Received(msgspec.Struct):
    """A body that has come in whole. `small` holds it (sealed, where it is encrypted) until a page takes it; otherwise it
    is in `written`, durable, of which `pieces` says how."""

    size: int
    small: bytes | None
    pieces: list[Piece]
    written: list[Written]


class Intake:
    def __init__(self, store: StripeStore, settings: ObjectsSettings, threads: ThreadPoolExecutor) -> None:
        self._store = store
        self._settings = settings
        self._threads = threads
        self._lanes = asyncio.Semaphore(settings.streams_max)

    async def receive(
        self,
        body: Body,
        digests: Digests,
        *,
        size: int | None = None,
        sealer: Sealer | None = None,
        profile: Profile | None = None,
        pages: bool = True,
    ) -> Received:
        """Takes `body` in. With `pages` a small one stays in memory for a page. Raises `IncompleteBody` where it is not of
        `size` bytes, `EntityTooLarge`, `SlowDown`, `StorageFull`, or what the body's iterator raises."""
        if size is not None and size > self._settings.object_bytes_max:
            raise EntityTooLarge(size=size, max=self._settings.object_bytes_max)
        if isinstance(body, bytes | bytearray | memoryview):
            if pages and memoryview(body).nbytes <= self._settings.small_bytes:
                return await self._receive_small(bytes(body), digests, size, sealer)
            body = _once(body)
        stream = _Stream(self, digests, sealer, profile, size)
        try:
            async for chunk in body:
                await stream.add(memoryview(chunk))
            return await stream.finish(pages)
        except BaseException:
            await stream.abandon()
            raise

    async def _receive_small(self, body: bytes, digests: Digests, size: int | None, sealer: Sealer | None) -> Received:
        """A body that is there already: nothing of what a stream needs."""
        if size is not None and len(body) != size:
            raise IncompleteBody(received=len(body), expected=size)
        if len(body) > HERE_BYTES_MAX:
            stored = await self._run(_digest_and_seal, body, digests, sealer)
        else:
            stored = _digest_and_seal(body, digests, sealer)
        return Received(len(body), stored, [], [])

    async def _lane(self) -> None:
        try:
            async with asyncio.timeout(self._settings.stream_wait_s):
                await self._lanes.acquire()
        except TimeoutError:
            raise SlowDown() from None

    async def _run(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)


class _Stream:
    """One body on its way in."""

    def __init__(
        self, intake: Intake, digests: Digests, sealer: Sealer | None, profile: Profile | None, size: int | None
    ) -> None:
        self._intake = intake
        self._settings = intake._settings
        self._digests = digests
        self._sealer = sealer
        self._profile = profile
        self._expected = size
        self._size = 0
        self._buffer = bytearray()
        self._has_lane = False
        self._flushing: asyncio.Task[None] | None = None
        self._ahead: asyncio.Task[None] | None = None
        self._pieces: list[Piece] = []
        self._written: list[Written] = []

    async def add(self, chunk: memoryview) -> None:
        chunk = chunk.cast("B") if chunk.format != "B" else chunk
        self._size += len(chunk)
        if self._size > self._settings.object_bytes_max:
            raise EntityTooLarge(max=self._settings.object_bytes_max)
        if self._expected is not None and self._size > self._expected:
            raise IncompleteBody("The body is longer than its Content-Length")
        while len(chunk):
            room = self._settings.stripe_bytes - len(self._buffer)
            self._buffer += chunk[:room]
            chunk = chunk[room:]
            if not self._has_lane and len(self._buffer) > self._settings.small_bytes:
                await self._intake._lane()
                self._has_lane = True
            if len(self._buffer) == self._settings.stripe_bytes:
                await self._flush()

    async def finish(self, pages: bool) -> Received:
        if self._expected is not None and self._size != self._expected:
            raise IncompleteBody(received=self._size, expected=self._expected)
        if pages and not self._has_lane:
            return await self._intake._receive_small(bytes(self._buffer), self._digests, None, self._sealer)
        if self._buffer:
            await self._flush()
        if self._flushing is not None:
            await self._flushing
        await self._settle_ahead()
        await self._intake._store.sync(self._written)
        self._give_lane_back()
        return Received(self._size, None, self._pieces, self._written)

    async def abandon(self) -> None:
        """Lets go of everything: what was written has no row and is dead."""
        if self._flushing is not None:
            await asyncio.wait([self._flushing])
            if not self._flushing.cancelled():
                self._flushing.exception()
        await self._settle_ahead()
        self._intake._store.release(self._written)
        self._give_lane_back()

    async def _settle_ahead(self) -> None:
        """Waits for the early sync. If it failed so will the last one, or will have mended it."""
        if self._ahead is not None:
            await asyncio.gather(self._ahead, return_exceptions=True)
            self._ahead = None

    def _give_lane_back(self) -> None:
        if self._has_lane:
            self._intake._lanes.release()
            self._has_lane = False

    async def _flush(self) -> None:
        """Sends the buffer on its way, once the one before has arrived."""
        if self._flushing is not None:
            await self._flushing
        buffer, self._buffer = self._buffer, bytearray()
        self._flushing = asyncio.create_task(self._write(buffer))

    async def _write(self, buffer: bytearray) -> None:
        hashing = asyncio.ensure_future(self._intake._run(self._digests.update, buffer))
        try:
            payload, crc = await self._intake._run(self._seal_stripe, buffer)
            written = await self._intake._store.write(payload, self._profile)
            self._written.append(written)
            self._pieces.append(Piece(written.stripe.id, 0, len(payload), crc))
            if self._ahead is None or self._ahead.done():
                # The disk works while the body is still coming in; what counts is the sync at the end.
                await self._settle_ahead()
                self._ahead = asyncio.create_task(self._intake._store.sync([written]))
        finally:
            await hashing

    def _seal_stripe(self, buffer: bytearray) -> tuple[bytes, int]:
        payload = bytes(buffer) if self._sealer is None else self._sealer.seal(bytes(buffer))
        return payload, crc32c(payload)


def _digest_and_seal(body: bytes, digests: Digests, sealer: Sealer | None) -> bytes:
    digests.update(body)
    return body if sealer is None else sealer.seal(body)


async def _once(chunk: Chunk) -> AsyncIterable[Chunk]:
    yield chunk
