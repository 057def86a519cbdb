"""Stripes on disks: a payload goes out as k+m shards on as many disks, and comes back from any k of them.

An intact read touches only the data shards that hold what is asked for, and of those only the blocks. A shard that is
missing, differs from its CRCs, or is late (three times its disk's 99th percentile) is replaced from parity at once, and its
stripe is handed to healing. Fewer than k good shards are an `InternalError`, with the shards named in the log, never bytes.

A write counts once k+1 shards (k without parity) are durable; what failed to be written is healed like what was lost.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import msgspec
from awscrt.checksums import crc32c  # type: ignore[import-untyped]

from mainspring.core.clock import Clock
from mainspring.core.crash import crash_point
from mainspring.core.ports import Database
from mainspring.storage.objects import extents, references
from mainspring.storage.objects.erasure import CODEC_BYTES, Profile, decode, encode, shard_length
from mainspring.storage.objects.errors import InternalError, ServiceUnavailable, StorageFull
from mainspring.storage.objects.extents import Damage
from mainspring.storage.objects.placing import Placing
from mainspring.storage.objects.references import Stripe
from mainspring.storage.objects.settings import ObjectsSettings
from mainspring.storage.objects.shards import Shards, read_the_exception
from mainspring.storage.objects.volumes import Disk, Lost, Place, Segment
from mainspring.storage.objects.windows import Window, bounds, spans

T = TypeVar("T")
log = logging.getLogger(__name__)

IDS_AT_ONCE = 4096
KNOWN_MAX = 8192
TRIES = 3


class Written(msgspec.Struct):
    """A stripe whose shards are written. `pinned` says which were just now, and pins their segments until `release`."""

    stripe: Stripe
    pinned: list[tuple[Place, Segment]]

    @property
    def durable(self) -> int:
        """How many shards have a place."""
        return sum(place is not None for place in self.stripe.places)


class StripeStore:
    """All live disks of this process. `on_bad` is told of every stripe that a shard was missing from."""

    def __init__(
        self, database: Database, clock: Clock, settings: ObjectsSettings, threads: ThreadPoolExecutor
    ) -> None:
        self.disks: dict[int, Disk] = {}
        self.placing = Placing(self.disks, clock, settings)
        self.shards = Shards(self.disks, clock)
        self.degraded_reads = self.bad_shards = 0
        self._database = database
        self._clock = clock
        self._settings = settings
        self._threads = threads
        self.on_bad: Callable[[Stripe], None] = _ignore
        self._ids = range(0)
        self._reserving = asyncio.Lock()
        self._known: OrderedDict[int, Stripe] = OrderedDict()

    # Writing

    async def write(self, payload: bytes, wanted: Profile | None = None) -> Written:
        """Writes the shards of `payload`, not yet durably. Raises `StorageFull` or `ServiceUnavailable`."""
        full = False
        for _ in range(TRIES):
            profile, disks = self.placing.choose(wanted)
            fragments = await self.run(encode, payload, profile)
            blank = Stripe(await self._next_id(), *profile, len(payload), (None,) * profile.shards)
            targets = list(zip(range(profile.shards), disks, fragments, strict=True))
            written, full = await self.write_shards(blank, targets)
            if written.durable >= profile.written_min:
                return written
            self.release([written])
        raise StorageFull() if full else ServiceUnavailable("the shards could not be written")

    async def write_shards(self, stripe: Stripe, targets: Sequence[tuple[int, Disk, bytes]]) -> tuple[Written, bool]:
        """Writes fragments of `stripe`, given as (index, disk, fragment); a failed one has no place in what comes back.

        Also gives whether a disk was full.
        """
        places = list(stripe.places)
        pinned: list[tuple[Place, Segment]] = []
        errors = await asyncio.gather(
            *(self._write_shard(stripe, index, disk, fragment, places, pinned) for index, disk, fragment in targets)
        )
        crash_point("objects.shards.written")
        return Written(msgspec.structs.replace(stripe, places=tuple(places)), pinned), "full" in errors

    async def _write_shard(
        self,
        stripe: Stripe,
        index: int,
        disk: Disk,
        fragment: bytes,
        places: list[Place | None],
        pinned: list[tuple[Place, Segment]],
    ) -> str:
        codec = CODEC_BYTES if stripe.m else 0
        length = len(fragment) - codec
        try:
            place, segment = await disk.reserve(extents.extent_bytes(length, codec), self._begin_segment)
            pinned.append((place, segment))
            header = extents.Header(
                stripe.id, index, stripe.k, stripe.m, codec, stripe.size, length, self._clock.wall_ns() // 1000, disk.id
            )
            await disk.write(segment, partial(extents.pack, header, fragment), place.offset)
        except OSError as error:
            return self.placing.failed(disk, error)
        places[index] = place
        return ""

    async def sync(self, written: Sequence[Written]) -> None:
        """Makes stripes durable. One of which too few shards are, because disks failed, is cut anew on what is left.

        Raises `ServiceUnavailable` where that cannot be done either.
        """
        for _ in range(TRIES):
            await self._sync_once(written)
            thin = [one for one in written if one.durable < one.stripe.profile.written_min]
            if not thin:
                return
            for one in thin:
                await self._cut_anew(one)
            written = thin
        raise ServiceUnavailable("the shards could not be made durable")

    async def _cut_anew(self, one: Written) -> None:
        """Writes a stripe again, from the shards that are left, on the disks that are."""
        if one.durable < one.stripe.k:
            raise ServiceUnavailable("the shards could not be made durable")
        payload = await self.payload(one.stripe)
        profile, disks = self.placing.choose()
        fragments = await self.run(encode, payload, profile)
        blank = Stripe(one.stripe.id, *profile, one.stripe.size, (None,) * profile.shards)
        again, _ = await self.write_shards(blank, list(zip(range(profile.shards), disks, fragments, strict=True)))
        one.stripe = again.stripe
        one.pinned += again.pinned

    async def _sync_once(self, written: Sequence[Written]) -> None:
        """Shards on a disk that fails lose their place."""
        dirty = {
            (place.disk, place.segment) for one in written for place, _ in one.pinned if place in one.stripe.places
        }
        failed = {where for where in await asyncio.gather(*(self._sync(*where) for where in dirty)) if where}
        crash_point("objects.shards.synced")
        if not failed:
            return
        for one in written:
            places = tuple(
                None if place is not None and (place.disk, place.segment) in failed else place
                for place in one.stripe.places
            )
            one.stripe = msgspec.structs.replace(one.stripe, places=places)

    async def _sync(self, disk_id: int, segment_number: int) -> tuple[int, int] | None:
        disk = self.disks.get(disk_id)
        if disk is None:
            return disk_id, segment_number
        try:
            await disk.sync(disk.segments[segment_number])
        except (OSError, KeyError) as error:
            self.placing.failed(disk, error)
            return disk_id, segment_number
        return None

    def release(self, written: Iterable[Written]) -> None:
        """Lets compaction have the segments again: the stripes are referred to by now, or never will be. What has not all
        of its shards is handed to healing."""
        for one in written:
            self.unpin(one)
            if None in one.stripe.places:
                self.on_bad(one.stripe)

    @staticmethod
    def unpin(written: Written) -> None:
        for place, segment in written.pinned:
            segment.pinned.pop(place.offset, None)
        written.pinned.clear()

    async def _begin_segment(self, disk: int, segment: int) -> None:
        await self._database.write(references.begin_segment, disk, segment)

    async def _next_id(self) -> int:
        while not self._ids:
            async with self._reserving:
                if not self._ids:
                    first = await self._database.write(references.reserve_ids, IDS_AT_ONCE)
                    self._ids = range(first, first + IDS_AT_ONCE)
        id, self._ids = self._ids[0], self._ids[1:]
        return id

    # Reading

    def read_cached(self, stripe: Stripe, start: int, stop: int, crc: int) -> bytes | None:
        """Bytes [start, stop) of the payload at once, where one shard has them all and the page cache has that."""
        length = shard_length(stripe.size, stripe.k)
        index, offset = divmod(start, length)
        if offset + stop - start > length:
            return None
        place = stripe.places[index]
        disk = None if place is None else self.disks.get(place.disk)
        if place is None or disk is None:
            return None
        begin = extents.HEADER_BYTES + (CODEC_BYTES if stripe.m else 0)
        try:
            data = disk.read_cached(place, stop - start, begin + offset)
        except Lost:
            return None
        return data if data is not None and crc32c(data) == crc else None

    async def read(
        self,
        id: int,
        start: int,
        stop: int,
        known: Stripe | None = None,
        kept: dict[int, Window] | None = None,
        ends: int = 0,
    ) -> bytes | memoryview:
        """Bytes [start, stop) of the payload of stripe `id`, which lay as `known` says. Who will read on until `ends` has
        `kept`: where parity is needed before that, it gets all of what is read for it, which is not read again for the next
        bytes.

        Raises `InternalError`.
        """
        stripe = known or await self.find(id)
        if start >= stop:
            return b""
        if kept and (window := kept.get(id)) is not None and window.has(start, stop):
            return await self._take(window, start, stop)
        kept, ends = {} if kept is None else kept, max(stop, ends)
        try:
            return await self._read(stripe, start, stop, ends, kept)
        except InternalError:
            self._known.pop(id, None)
            again = await self.find(id)
            if again.places == stripe.places:
                raise
            return await self._read(again, start, stop, ends, kept)

    async def find(self, id: int) -> Stripe:
        """Where stripe `id` lies. Raises `InternalError` where there is none."""
        known = self._known.get(id)
        if known is not None:
            return known
        found = await self._database.read(references.load, id)
        if found is None:
            raise InternalError(f"stripe {id} is gone")
        self.learn(found)
        return found

    def learn(self, stripe: Stripe) -> None:
        """Remembers where a stripe lies, as its row says."""
        self._known[stripe.id] = stripe
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    def forget(self, id: int) -> None:
        self._known.pop(id, None)

    async def _read(
        self, stripe: Stripe, start: int, stop: int, ends: int, kept: dict[int, Window]
    ) -> bytes | memoryview:
        if any(self.shards.is_gone(stripe, index) for index in spans(stripe, start, ends)):
            return await self._read_degraded(stripe, start, stop, ends, kept)
        wanted = spans(stripe, start, stop)
        if not stripe.m and len(wanted) == 1:
            # Nothing could replace it, so there is nothing to watch.
            ((first, span),) = wanted.items()
            try:
                return await self._read_part(stripe, first, *span)
            except (Damage, Lost, OSError) as error:
                self._note_bad(stripe, first, error)
            return await self._read_degraded(stripe, start, stop, ends, kept, {first})
        tasks = {index: asyncio.create_task(self._read_part(stripe, index, *span)) for index, span in wanted.items()}
        late_s = max((self.shards.late_s(stripe, index) for index in wanted), default=1.0) if stripe.m else None
        await asyncio.wait(tasks.values(), timeout=late_s)
        if all(task.done() and task.exception() is None for task in tasks.values()):
            parts = [task.result() for task in tasks.values()]
            return parts[0] if len(parts) == 1 else b"".join(parts)
        for index, task in tasks.items():
            if not task.done():
                task.add_done_callback(read_the_exception)
            elif (failure := task.exception()) is not None and not isinstance(failure, Damage | Lost | OSError):
                raise failure
            if not task.done() or task.exception() is not None:
                self._note_bad(stripe, index, task.exception() if task.done() else "late")
        bad = {index for index, task in tasks.items() if not task.done() or task.exception() is not None}
        return await self._read_degraded(stripe, start, stop, ends, kept, bad)

    async def _read_part(self, stripe: Stripe, index: int, start: int, stop: int) -> memoryview:
        blocks, skip = await self.shards.part(stripe, index, start, stop)
        return memoryview(blocks)[skip : skip + stop - start]

    async def _read_degraded(
        self,
        stripe: Stripe,
        start: int,
        stop: int,
        ends: int,
        kept: dict[int, Window],
        bad: Collection[int] = (),
    ) -> bytes | memoryview:
        self.on_bad(stripe)
        self.degraded_reads += 1
        kept.clear()
        found, missing = await self.shards.parts(stripe, *bounds(stripe, start, ends), bad)
        self._ensure_enough(stripe, found, missing)
        skip = next(part.skip for part in found.values())
        window = Window(stripe, start, ends, {index: part.blocks for index, part in found.items()}, skip)
        kept[stripe.id] = window
        return await self._take(window, start, stop)

    async def _take(self, window: Window, start: int, stop: int) -> bytes | memoryview:
        if window.is_missing(start, stop):
            await self.run(window.compute)
        return window.take(start, stop)

    def _note_bad(self, stripe: Stripe, index: int, reason: BaseException | str | None) -> None:
        self.bad_shards += 1
        log.warning("stripe %d, shard %d at %s: %s", stripe.id, index, stripe.places[index], reason)

    async def payload(self, stripe: Stripe) -> bytes:
        """The whole payload from any k good shards. Raises `InternalError` where there are fewer."""
        fragments, missing = await self.shards.fragments(stripe, stripe.k)
        self._ensure_enough(stripe, fragments, missing)
        return await self.run(decode, fragments, stripe.profile, stripe.size)

    @staticmethod
    def _ensure_enough(stripe: Stripe, found: Mapping[int, object], missing: dict[int, str]) -> None:
        if len(found) < stripe.k:
            log.error("stripe %d cannot be read: of %s the shards %s are missing", stripe.id, stripe.profile, missing)
            raise InternalError(stripe=stripe.id, missing_shards=sorted(missing))

    async def run(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)


def _ignore(stripe: Stripe) -> None:
    return None
