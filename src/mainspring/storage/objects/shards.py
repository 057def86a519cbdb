"""Reading shards: one of a stripe, or enough of them whatever some disks do.

Every block is checked by the thread that read it, while it is warm. While a shard is late (three times its disk's 99th
percentile) another is asked for, and one that does not answer at all is not waited for longer than a minute.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

from mainspring.core.clock import Clock
from mainspring.storage.objects import extents
from mainspring.storage.objects.erasure import CODEC_BYTES, shard_length
from mainspring.storage.objects.extents import Damage
from mainspring.storage.objects.references import Stripe
from mainspring.storage.objects.volumes import STALLED_S, Disk, Lost, Place

T = TypeVar("T")


class Part(NamedTuple):
    """Whole blocks of a shard, of which what was asked for begins at `skip`."""

    blocks: bytes
    skip: int


class Shards:
    """The shards on `disks`, by their ids."""

    def __init__(self, disks: Mapping[int, Disk], clock: Clock) -> None:
        self._disks = disks
        self._clock = clock

    def is_gone(self, stripe: Stripe, index: int) -> bool:
        """Whether a shard need not even be asked for."""
        place = stripe.places[index]
        disk = None if place is None else self._disks.get(place.disk)
        return disk is None or disk.lost is not None

    def late_s(self, stripe: Stripe, index: int) -> float:
        """When a shard counts as late, zero for one that is nowhere."""
        place = stripe.places[index]
        disk = None if place is None else self._disks.get(place.disk)
        return 0.0 if disk is None else disk.latencies.late_s

    async def part(self, stripe: Stripe, index: int, start: int, stop: int) -> Part:
        """Bytes [start, stop) of one shard. Raises `Damage`, `Lost` or `OSError`."""
        return await self._part(stripe, index, start, stop, None)

    async def _part(
        self, stripe: Stripe, index: int, start: int, stop: int, check: Callable[[bytes], object] | None
    ) -> Part:
        """`check` is shown the header of the extent."""
        disk, place = self._disk_of(stripe, index)
        length = shard_length(stripe.size, stripe.k)
        codec = CODEC_BYTES if stripe.m else 0
        begin, blocks_bytes, table_at, table_bytes = extents.window(length, codec, start, stop)
        wanted = [(begin, blocks_bytes), (table_at, table_bytes)]
        if check is not None:
            wanted.append((0, extents.HEADER_BYTES))

        def checked(parts: list[bytes]) -> bytes:
            blocks, table, *head = parts
            if check is not None:
                check(head[0])
            if len(blocks) != blocks_bytes:
                raise Damage("cut short")
            extents.check_blocks(blocks, table)
            return blocks

        began_ns = self._clock.mono_ns()
        blocks = await disk.read_with(place, wanted, checked)
        disk.latencies.note((self._clock.mono_ns() - began_ns) / 1e9)
        return Part(blocks, start % extents.BLOCK)

    async def fragment(self, stripe: Stripe, index: int) -> bytes:
        """One whole fragment, with all that its extent says of itself. Raises `Damage`, `Lost` or `OSError`."""
        disk, place = self._disk_of(stripe, index)
        codec = CODEC_BYTES if stripe.m else 0

        def checked(parts: list[bytes]) -> bytes:
            head, fragment, tail = parts
            extents.check_whole(head, fragment, tail, stripe.id, index)
            return fragment

        return await disk.read_with(place, extents.parts(shard_length(stripe.size, stripe.k), codec), checked)

    async def fragments(
        self, stripe: Stripe, enough: int, last: Collection[int] = ()
    ) -> tuple[dict[int, bytes], dict[int, str]]:
        """Good fragments by index, at least `enough` where there are so many, those in `last` asked for last; and what is
        wrong with the others tried."""
        return await self._gather(stripe, enough, last, partial(self.fragment, stripe))

    async def parts(
        self, stripe: Stripe, start: int, stop: int, last: Collection[int] = ()
    ) -> tuple[dict[int, Part], dict[int, str]]:
        """Like `fragments`, of bytes [start, stop) of any k shards, each of which must say that it is this shard."""

        async def read(index: int) -> Part:
            check = partial(extents.check_header, stripe=stripe.id, index=index)
            return await self._part(stripe, index, start, stop, check)

        return await self._gather(stripe, stripe.k, last, read)

    async def _gather(
        self, stripe: Stripe, enough: int, last: Collection[int], read: Callable[[int], Coroutine[Any, Any, T]]
    ) -> tuple[dict[int, T], dict[int, str]]:
        good: dict[int, T] = {}
        bad: dict[int, str] = {}
        # Those that are known to be gone come last, so that what is needed is asked for all at once.
        untried = sorted(range(len(stripe.places)), key=lambda index: (index in last, self.is_gone(stripe, index)))
        late_s = max(self.late_s(stripe, index) for index in untried)
        running: dict[asyncio.Task[T], int] = {}
        late: set[asyncio.Task[T]] = set()
        try:
            while len(good) < enough:
                while untried and len(good) + len(running) - len(late) < enough:
                    index = untried.pop(0)
                    running[asyncio.create_task(read(index))] = index
                if not running:
                    break
                patience_s = late_s if untried else STALLED_S
                done, others = await asyncio.wait(running, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                if not done and not untried:
                    bad.update((index, "it does not answer") for index in running.values())
                    break
                if not done:
                    late |= others
                for task in done:
                    index = running.pop(task)
                    late.discard(task)
                    error = task.exception()
                    if error is None:
                        good[index] = task.result()
                    elif isinstance(error, Damage | Lost | OSError):
                        bad[index] = str(error)
                    else:
                        raise error
        finally:
            for task in running:
                task.add_done_callback(read_the_exception)
                task.cancel()
        return good, bad

    def _disk_of(self, stripe: Stripe, index: int) -> tuple[Disk, Place]:
        place = stripe.places[index]
        if place is None:
            raise Lost("it was never written, or its disk is lost")
        disk = self._disks.get(place.disk)
        if disk is None:
            raise Lost(f"disk {place.disk} is lost")
        return disk, place


def read_the_exception(task: "asyncio.Task[Any]") -> None:
    """For a task that nobody waits for any more, so that what it raises is not called unread."""
    if not task.cancelled():
        task.exception()
