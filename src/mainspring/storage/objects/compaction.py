"""Compaction: dead bytes are given back. Which bytes live is said by the rows of stripes alone; all else in a segment is dead.

    segments   more than half dead: what lives is written again, checked on the way, and the file goes
    orphans    what a crash or a broken put left beside rows, in segments noted as being written: its blocks are given back
    pages      shared pages of which little is still an object: the objects move to a new page

A file goes only when no reader is left that began before: what it reads may have been deleted since.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakSet

import msgspec
from awscrt.checksums import crc32c  # type: ignore[import-untyped]
from sqlalchemy import and_, bindparam, select, update

from mainspring.core.crash import crash_point
from mainspring.core.database import Bytes
from mainspring.core.ports import Connection
from mainspring.storage.objects import references
from mainspring.storage.objects.engine import Engine
from mainspring.storage.objects.erasure import CODEC_BYTES, Profile, shard_length
from mainspring.storage.objects.errors import ObjectsError
from mainspring.storage.objects.extents import Damage, extent_bytes
from mainspring.storage.objects.healing import Healing
from mainspring.storage.objects.model import Piece, pack_pieces, unpack_pieces
from mainspring.storage.objects.pages import lay_out
from mainspring.storage.objects.reading import Ticket
from mainspring.storage.objects.references import Stripe
from mainspring.storage.objects.tables import version
from mainspring.storage.objects.volumes import Disk, Lost

log = logging.getLogger(__name__)

ROWS = 500
SPARSE_MAX = 256
SMALL_SEGMENTS_MAX = 16
"""So many sealed segments of less than an eighth of the full size, left by restarts, are put together."""

Where = tuple[int, int]

_OF_PAGE = select(version.c.bucket, version.c.key, version.c.rank, version.c.pieces).where(
    version.c.page == bindparam("of_page")
)
_REPAGE = (
    update(version)
    .where(
        and_(
            version.c.bucket == bindparam("of_bucket"),
            version.c.key == bindparam("of_key"),
            version.c.rank == bindparam("of_rank"),
            version.c.pieces == bindparam("before", type_=Bytes),
        )
    )
    .values(pieces=bindparam("after", type_=Bytes), page=bindparam("to_page"))
)


class Usage(msgspec.Struct):
    """What a walk over all stripes found: live bytes of each segment, and pages that hold little."""

    live: dict[Where, int]
    sparse: list[int]
    stripes: int = 0
    payload_bytes: int = 0
    live_bytes: int = 0


class Strewn(msgspec.Struct):
    """The extents of a segment that rows refer to: all that lies between them is nobody's. `readers` are those who began
    before that was found, and may be reading what was deleted before it was."""

    extents: list[tuple[int, int]]
    readers: WeakSet[Ticket] = msgspec.field(default_factory=WeakSet)


class Ajar(msgspec.Struct):
    """An open segment as it was at one moment. Where something in it is nobody's, such as half of a body that broke off, it
    is sealed, so that the next round clears it: it could stay open for ever."""

    size: int
    pinned: dict[int, int]
    strewn: Strewn

    def is_whole(self) -> bool:
        taken = {**self.pinned, **dict(self.strewn.extents)}
        return sum(length for offset, length in taken.items() if offset < self.size) >= self.size


class Compaction:
    def __init__(self, engine: Engine, healing: Healing) -> None:
        self.given_back_bytes = 0
        self._holds = 0
        self._working = asyncio.Lock()
        self._engine = engine
        self._store = engine.store
        self._database = engine.database
        self._healing = healing
        self._doomed: list[tuple[Disk, int, WeakSet[Ticket]]] = []
        self._strewn: dict[Where, Strewn] = {}
        self._whole: dict[int, tuple[int, int]] = {}

    async def usage(self) -> Usage:
        """Walks over all stripes once."""
        usage = Usage({}, [])
        after = 0
        while rows := await self._database.read(references.stripes_after, after, ROWS):
            for stripe, live in rows:
                size = extent_of(stripe)
                for place in stripe.places:
                    if place is not None:
                        where = (place.disk, place.segment)
                        usage.live[where] = usage.live.get(where, 0) + size
                if 2 * live < stripe.size and len(usage.sparse) < SPARSE_MAX:
                    usage.sparse.append(stripe.id)
                usage.stripes += 1
                usage.payload_bytes += stripe.size
                usage.live_bytes += live
            after = rows[-1][0].id
        return usage

    async def hold(self) -> None:
        """Gives nothing back from here on, until `let_go` has been called as often."""
        self._holds += 1
        async with self._working:
            pass  # a round that was running has ended

    def hold_on(self) -> None:
        """Like `hold`, for who is between a `hold` and its `let_go`."""
        self._holds += 1

    def let_go(self) -> None:
        self._holds -= 1

    async def compact(self) -> int:
        """One round: repacks sparse pages, rewrites segments that are more than half dead; gives the bytes given back."""
        async with self._working:
            return 0 if self._holds else await self._compact()

    async def _compact(self) -> int:
        before = self.given_back_bytes
        self._remove_doomed()
        quiet = self._quiet()
        usage = await self.usage()
        if usage.sparse:
            await self._repack(usage.sparse)
            usage = await self.usage()
        doomed = {where for where in quiet if self._is_doomed(where, usage)}
        doomed |= self._small(quiet - doomed)
        if doomed:
            if any(usage.live.get(where) for where in doomed):
                await self._empty(doomed)
                usage = await self.usage()
            for where in doomed:
                if not usage.live.get(where):
                    self._doomed.append((self._store.disks[where[0]], where[1], WeakSet(self._engine.readers)))
        self._remove_doomed()
        return self.given_back_bytes - before

    async def reclaim(self) -> int:
        """Gives back what lies beside the rows in segments noted as being written and not written any more. Gives how
        many were cleared."""
        async with self._working:
            return 0 if self._holds else await self._reclaim()

    async def _reclaim(self) -> int:
        for disk, segment in await self._database.read(references.begun_segments):
            if disk in self._store.disks and not self._store.disks[disk].has(segment):
                await self._database.write(references.end_segment, disk, segment)
        cleared = await self._clear_strewn()
        noted = set(await self._database.read(references.begun_segments))
        closed = {where: Strewn([]) for where in self._quiet() & noted - self._strewn.keys()}
        ajar = {
            (disk.id, disk.open.number): Ajar(disk.open.size, dict(disk.open.pinned), Strewn([]))
            for disk in self._store.disks.values()
            if disk.open is not None and self._whole.get(disk.id) != (disk.open.number, disk.open.size)
        }
        await self._find({**closed, **{where: one.strewn for where, one in ajar.items()}})
        self._strewn.update(closed)
        for (disk_id, number), one in ajar.items():
            there = self._store.disks.get(disk_id)
            if one.is_whole():
                self._whole[disk_id] = (number, one.size)
            elif there is not None and there.open is not None and there.open.number == number:
                there.seal()
        return cleared + await self._clear_strewn()

    async def _find(self, found: Mapping[Where, Strewn]) -> None:
        """Notes all extents of these segments that rows refer to, and who may be reading others."""
        after = 0
        while found and (rows := await self._database.read(references.stripes_after, after, ROWS)):
            for stripe, _ in rows:
                for place in stripe.places:
                    if place is not None and (place.disk, place.segment) in found:
                        found[place.disk, place.segment].extents.append((place.offset, extent_of(stripe)))
            after = rows[-1][0].id
        for strewn in found.values():
            strewn.readers = WeakSet(self._engine.readers)

    async def _clear_strewn(self) -> int:
        """Clears the segments that no reader is left of who began before they were looked through."""
        cleared = 0
        for where, strewn in list(self._strewn.items()):
            if strewn.readers & self._engine.readers:
                continue
            del self._strewn[where]
            disk = self._store.disks.get(where[0])
            if disk is None or disk.lost is not None or where[1] not in disk.segments:
                continue
            try:
                self.given_back_bytes += await self._store.run(_clear_beside, disk, where[1], sorted(strewn.extents))
            except OSError as error:
                log.warning("segment %d of disk %d cannot be cleared: %s", where[1], where[0], error)
                continue
            crash_point("objects.reclaim.cleared")
            await self._database.write(references.end_segment, *where)
            cleared += 1
        return cleared

    def _quiet(self) -> set[Where]:
        """Sealed segments that nobody is writing a stripe of: every row that will ever refer to them is there."""
        return {
            (disk.id, segment.number)
            for disk in self._store.disks.values()
            for segment in disk.segments.values()
            if segment.sealed and not segment.pinned and disk.lost is None
        }

    def _is_doomed(self, where: Where, usage: Usage) -> bool:
        size = self._store.disks[where[0]].segments[where[1]].size
        return 2 * usage.live.get(where, 0) < size or size == 0

    def _small(self, quiet: set[Where]) -> set[Where]:
        """Small segments of a disk, where there are many."""
        limit = self._engine.settings.segment_bytes // 8
        small: dict[int, set[Where]] = {}
        for disk, number in quiet:
            if self._store.disks[disk].segments[number].size < limit:
                small.setdefault(disk, set()).add((disk, number))
        return {where for found in small.values() if len(found) > SMALL_SEGMENTS_MAX for where in found}

    async def _empty(self, doomed: set[Where]) -> None:
        """Moves every shard that lies in one of these segments to its disk's open one."""
        after = 0
        while rows := await self._database.read(references.stripes_after, after, ROWS):
            for stripe, _ in rows:
                if any(place is not None and (place.disk, place.segment) in doomed for place in stripe.places):
                    await self._move(stripe, doomed)
            after = rows[-1][0].id

    async def _move(self, stripe: Stripe, doomed: set[Where]) -> None:
        targets = []
        for index, place in enumerate(stripe.places):
            if place is None or (place.disk, place.segment) not in doomed:
                continue
            try:
                fragment = await self._store.shards.fragment(stripe, index)
            except (Damage, Lost, OSError) as error:
                log.warning("stripe %d, shard %d: %s", stripe.id, index, error)
                self._healing.note(stripe)
                await self._healing.heal(stripe.id)
                return
            targets.append((index, self._store.disks[place.disk], fragment))
        moving = {index for index, _, _ in targets}
        blank = msgspec.structs.replace(
            stripe, places=tuple(None if index in moving else place for index, place in enumerate(stripe.places))
        )
        written, _ = await self._store.write_shards(blank, targets)
        try:
            await self._store.sync([written])
            crash_point("objects.compact.synced")
            await self._database.write(references.move, stripe, written.stripe)
            if None in written.stripe.places:
                self._healing.note(written.stripe)
        except ObjectsError as error:
            log.warning("stripe %d cannot be moved now: %s", stripe.id, error)
        finally:
            self._store.forget(stripe.id)
            self._store.unpin(written)

    def _remove_doomed(self) -> None:
        left = []
        for disk, number, readers in self._doomed:
            if readers & self._engine.readers:
                left.append((disk, number, readers))
            elif disk.lost is None and number in disk.segments:
                self.given_back_bytes += disk.segments[number].size
                disk.remove(number)
                crash_point("objects.compact.removed")
        self._doomed = left

    async def _repack(self, sparse: list[int]) -> None:
        """Moves the objects of pages that hold little to new pages."""
        for page in sparse:
            await self.repack(await self._database.read(_objects_of, page))

    async def repack(self, rows: Sequence[Any], profile: Profile | None = None) -> int:
        """Moves small objects, of each of which bucket, key, rank and pieces are given, to new pages of this profile; gives
        how many pages."""
        pages, size = 0, 0
        batch: list[tuple[Any, bytes]] = []
        for row in rows:
            piece = unpack_pieces(row[3])[0]
            try:
                body = bytes(await self._store.read(piece.stripe, piece.offset, piece.offset + piece.length))
            except ObjectsError as error:
                log.warning("an object of page %d cannot be moved: %s", piece.stripe, error)
                continue
            if batch and (size + len(body) > self._engine.settings.page_bytes or len(batch) >= ROWS):
                await self._write_page(batch, profile)
                pages, batch, size = pages + 1, [], 0
            batch.append((row, body))
            size += len(body)
        if batch:
            await self._write_page(batch, profile)
            pages += 1
        return pages

    async def _write_page(self, batch: list[tuple[Any, bytes]], wanted: Profile | None) -> None:
        profile, _ = self._store.placing.choose(wanted)
        payload, offsets = lay_out([body for _, body in batch], profile.k)
        written = await self._store.write(payload, profile)
        try:
            await self._store.sync([written])
            moves = [
                (row, pack_pieces([Piece(written.stripe.id, offset, len(body), crc32c(body))]), len(body))
                for (row, body), offset in zip(batch, offsets, strict=True)
            ]
            await self._database.write(_repage, written.stripe, moves)
        finally:
            self._store.release([written])


def _clear_beside(disk: Disk, number: int, extents: Sequence[tuple[int, int]]) -> int:
    """Gives how many bytes of the segment belonged to nobody."""
    size, at = disk.segments[number].size, 0
    beside = []
    for offset, length in extents:
        if offset > at:
            beside.append((at, offset - at))
        at = max(at, offset + length)
    disk.clear(number, beside, min(at, size))
    return sum(length for _, length in beside) + max(0, size - at)


def extent_of(stripe: Stripe) -> int:
    """Size of each of a stripe's extents."""
    return extent_bytes(shard_length(stripe.size, stripe.k), CODEC_BYTES if stripe.m else 0)


def _objects_of(connection: Connection, page: int) -> list[Any]:
    return connection.execute(_OF_PAGE, {"of_page": page}).all()


def _repage(connection: Connection, stripe: Stripe, moves: list[tuple[Any, bytes, int]]) -> None:
    """Points versions at their new place; one that was changed meanwhile stays as it is."""
    references.insert_stripe(connection, stripe, sum(length for _, _, length in moves))
    for (bucket, key, rank, before), after, _ in moves:
        where = {"of_bucket": bucket, "of_key": key, "of_rank": rank}
        moved = connection.execute(_REPAGE, {**where, "before": before, "after": after, "to_page": stripe.id}).rowcount
        references.release(connection, before if moved else after)
