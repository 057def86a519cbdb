"""Reading an object's bytes: only the stripes, and of them only the blocks, that the range needs; the next is read ahead."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple
from weakref import WeakSet

from mainspring.storage.objects.encryption import PACKAGE, TAG, Unit, open_packages, stored_size
from mainspring.storage.objects.errors import InternalError, InvalidPartNumber, InvalidRange
from mainspring.storage.objects.model import Object, Piece
from mainspring.storage.objects.references import Stripe
from mainspring.storage.objects.stripes import StripeStore
from mainspring.storage.objects.windows import Window

CHUNK_BYTES = 1 << 20
SPAN_BYTES = 2 << 20
"""So much is read, checked and sent before the processor's cache has forgotten it, and while the next is being read."""

CACHED_BYTES_MAX = 128 << 10
"""What is larger is read by a thread, page cache or not: copying it would hold the event loop."""


class Span(NamedTuple):
    """Bytes [start, stop) of a stripe's payload, of which the spans to come want more until `ends`. For a sealed object they
    are whole packages of `unit` from number `package` on, of which `skip` plain bytes are left out and `take` are wanted."""

    piece: Piece
    start: int
    stop: int
    ends: int
    unit: Unit | None = None
    package: int = 0
    skip: int = 0
    take: int = 0


class Ticket:
    """Stands for somebody who reads, from before they look where the bytes lie until they have them."""

    __slots__ = ("__weakref__",)


class Reader:
    """An object and, by iterating once, its bytes [start, stop) in chunks of at most 1 MiB. `read` gives all at once."""

    def __init__(
        self,
        store: StripeStore,
        object: Object,
        pieces: Sequence[Piece],
        stripes: Sequence[Stripe],
        start: int,
        stop: int,
        data_key: bytes | None,
        ticket: Ticket,
        readers: "WeakSet[Ticket]",
    ) -> None:
        """`readers`, of whom this is the one with `ticket`, are those for whose sake compaction leaves files where they are."""
        self.object = object
        self.start = start
        self.stop = stop
        self._store = store
        self._pieces = pieces
        self._stripes = {stripe.id: stripe for stripe in stripes}
        self._kept: dict[int, Window] = {}
        self._data_key = data_key
        self._ticket = ticket
        self._readers = readers

    @property
    def length(self) -> int:
        return self.stop - self.start

    async def read(self) -> bytes:
        """All of the range at once, for what fits into memory."""
        chunks = [chunk async for chunk in self]
        return bytes(chunks[0]) if len(chunks) == 1 else b"".join(chunks)

    def cached(self) -> bytes | None:
        """The whole range at once where it is one small object in the page cache; None where it must be read."""
        if len(self._pieces) != 1 or self._data_key is not None or self._pieces[0].length > CACHED_BYTES_MAX:
            return None
        piece = self._pieces[0]
        stripe = self._stripes.get(piece.stripe)
        if stripe is None:
            return None
        whole = self._store.read_cached(stripe, piece.offset, piece.offset + piece.length, piece.crc32c)
        if whole is None or self.length == len(whole):
            return whole
        return whole[self.start : self.stop]

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        cached = b"" if self.length == 0 else self.cached()
        if cached is not None:
            self._readers.discard(self._ticket)
            if cached:
                yield memoryview(cached)
            return
        ahead: asyncio.Task[bytes | memoryview] | None = None
        try:
            spans = self._sealed_spans() if self._data_key is not None else self._plain_spans()
            for number in range(len(spans)):
                data = memoryview(await (ahead or self._fetch(spans[number])))
                ahead = None
                if number + 1 < len(spans):
                    ahead = asyncio.create_task(self._fetch(spans[number + 1]))
                for at in range(0, len(data), CHUNK_BYTES):
                    yield data[at : at + CHUNK_BYTES]
        finally:
            if ahead is not None:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)
            self._readers.discard(self._ticket)

    async def _fetch(self, span: Span) -> bytes | memoryview:
        known = self._stripes.get(span.piece.stripe)
        data = await self._store.read(span.piece.stripe, span.start, span.stop, known, self._kept, span.ends)
        if len(data) != span.stop - span.start:
            raise InternalError(f"stripe {span.piece.stripe} is shorter than its pieces")
        if span.unit is None or self._data_key is None:
            return data
        loop = asyncio.get_running_loop()
        plain = await loop.run_in_executor(None, open_packages, self._data_key, span.unit, span.package, data)
        return memoryview(plain)[span.skip : span.skip + span.take]

    def _plain_spans(self) -> list[Span]:
        spans, at = [], 0
        for piece in self._pieces:
            low, high = max(self.start - at, 0), min(self.stop - at, piece.length)
            for begin in range(low, high, SPAN_BYTES):
                end = min(begin + SPAN_BYTES, high)
                spans.append(Span(piece, piece.offset + begin, piece.offset + end, piece.offset + high))
            at += piece.length
        return spans

    def _sealed_spans(self) -> list[Span]:
        """A unit's pieces hold its packages in order, each piece whole ones but for the unit's last."""
        sealed = self.object.sealed
        units = [Unit(*unit) for unit in sealed.units] if sealed is not None else []
        spans, at, pieces = [], 0, iter(self._pieces)
        for unit in units:
            left, package = stored_size(unit.size), 0
            while left > 0:
                piece = next(pieces)
                left -= piece.length
                plain = piece.length - TAG * -(-piece.length // (PACKAGE + TAG))
                low, high = max(self.start - at, 0), min(self.stop - at, plain)
                step = SPAN_BYTES // PACKAGE
                first, last = low // PACKAGE, -(-high // PACKAGE)
                ends = piece.offset + min(last * (PACKAGE + TAG), piece.length)
                for begin in range(first, last, step):
                    end = min(begin + step, last)
                    from_plain, to_plain = max(low, begin * PACKAGE), min(high, end * PACKAGE)
                    start = piece.offset + begin * (PACKAGE + TAG)
                    stop = piece.offset + min(end * (PACKAGE + TAG), piece.length)
                    skip = from_plain - begin * PACKAGE
                    spans.append(Span(piece, start, stop, ends, unit, package + begin, skip, to_plain - from_plain))
                at += plain
                package += -(-plain // PACKAGE)
        return spans


def resolve_range(object: Object, range: tuple[int | None, int | None] | None, part: int | None) -> tuple[int, int]:
    """[start, stop) of what is asked for. `range` is (first, last) inclusive, as HTTP has it: (first, None) to the end,
    (None, n) the last n bytes. Raises `InvalidRange`, `InvalidPartNumber`."""
    if part is not None:
        return _part_range(object, part)
    if range is None:
        return 0, object.size
    first, last = range
    if first is None:
        if not last or not object.size:
            raise InvalidRange(actual_size=object.size)
        return max(0, object.size - last), object.size
    if first >= object.size:
        raise InvalidRange(actual_size=object.size)
    return first, object.size if last is None else min(last + 1, object.size)


def _part_range(object: Object, number: int) -> tuple[int, int]:
    if not object.parts:
        if number != 1:
            raise InvalidPartNumber(actual_parts=1)
        return 0, object.size
    if not 1 <= number <= len(object.parts):
        raise InvalidPartNumber(actual_parts=len(object.parts))
    start = sum(part.size for part in object.parts[: number - 1])
    return start, start + object.parts[number - 1].size
