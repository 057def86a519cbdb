"""`Upkeep`: what a store does for itself. Each duty is a call that does a bounded piece of work, for jobs, commands and tests;
one background task heals as soon as something is found bad, for at most its share of the time.
"""

import asyncio
import logging

import msgspec

from mainspring.core.telemetry import Metrics
from mainspring.storage.objects import buckets, lifecycle, lookups, multipart, references
from mainspring.storage.objects.compaction import Compaction, Usage
from mainspring.storage.objects.engine import Engine
from mainspring.storage.objects.erasure import Profile, parse_profile
from mainspring.storage.objects.errors import NoSuchUpload
from mainspring.storage.objects.healing import Healing
from mainspring.storage.objects.lifecycle import Action, Days, Walk
from mainspring.storage.objects.listing import beyond
from mainspring.storage.objects.model import stripe_lengths
from mainspring.storage.objects.references import Stripe
from mainspring.storage.objects.scrubbing import Scrubbing, Standing

log = logging.getLogger(__name__)

SCRUB_STRIPES = 64
ACTIONS_AT_ONCE = 100
ABORTS_AT_ONCE = 100
END = b"\xff" * 1025

SmallRow = tuple[int, bytes, int, bytes]
"""Bucket, key, rank and pieces of an object in a shared page."""


class DiskState(msgspec.Struct, frozen=True):
    """A disk as operators see it. `live_bytes` is what rows refer to, `used_bytes` what its segments take."""

    id: int
    directory: str
    zone: str
    state: str
    free_bytes: int
    total_bytes: int
    segments: int
    used_bytes: int


class Upkeep:
    def __init__(self, engine: Engine, metrics: Metrics | None) -> None:
        self._engine = engine
        self._database = engine.database
        self._clock = engine.clock
        self.healing = Healing(engine.store, engine.database, engine.settings)
        self.scrubbing = Scrubbing(engine.store, engine.database, self.healing)
        self.compaction = Compaction(engine, self.healing)
        self._wake = asyncio.Event()
        self._healer: asyncio.Task[None] | None = None
        self._seen: tuple[frozenset[int], Profile | None] = (frozenset(), None)
        if metrics is not None:
            self._measure(metrics)

    def bad_stripe(self, stripe: Stripe) -> None:
        """A shard was missing from what was read or written."""
        self.healing.note(stripe, max(1, sum(place is None for place in stripe.places)))
        self._wake.set()

    def start(self) -> None:
        self._healer = asyncio.create_task(self._heal_for_ever(), name="heal stripes")

    async def stop(self) -> None:
        if self._healer is not None:
            self._healer.cancel()
            await asyncio.gather(self._healer, return_exceptions=True)
            self._healer = None

    async def heal(self) -> int:
        """Notices lost disks, adopts new ones, and heals everything that lacks a shard. Gives how many were healed."""
        before = self.healing.healed
        await self._engine.look_after_disks()
        while await self.healing.scan():
            healed = self.healing.healed
            await self.healing.heal_all()
            if self.healing.healed == healed:
                break
        await self.healing.heal_all()
        return self.healing.healed - before

    async def look(self) -> None:
        """Notices lost disks, and disks that are there again, and queues what that concerns; for a job every few seconds.
        The first time it looks through all stripes, since disks may have changed while no process ran."""
        await self._engine.look_after_disks()
        disks = self._engine.store.disks
        seen = frozenset(disks), self._engine.store.placing.allowed()
        if seen != self._seen or any(disk.draining for disk in disks.values()):
            self._seen = seen
            await self.healing.scan()
        if self.healing.waiting:
            self._wake.set()

    async def scrub(self, stripes: int = SCRUB_STRIPES) -> int:
        """Reads the shards of the next stripes; gives how many stripes, 0 at the end of a round."""
        read = await self.scrubbing.scrub(stripes, self._clock.wall_ns() // 1000)
        if self.healing.waiting:
            self._wake.set()
        return read

    async def scrub_all(self) -> Standing:
        """One whole round from where it stands; gives what it found."""
        while await self.scrub():
            pass
        return await self.scrubbing.standing()

    async def scrub_due(self) -> None:
        """As much scrubbing as a minute's share allows, if this round is not already ahead of its time."""
        standing = await self.scrubbing.standing()
        now_us = self._clock.wall_ns() // 1000
        round_us = self._engine.settings.scrub_days * 86_400e6
        if standing.begun_us == 0 and now_us - standing.last_begun_us < round_us:
            return
        budget_ns = int(60e9 * self._engine.settings.scrub_share_max)
        begun_ns = self._clock.mono_ns()
        while self._clock.mono_ns() - begun_ns < budget_ns and await self.scrub():
            pass

    async def compact(self) -> int:
        """Gives dead bytes back, those of crashes as well; gives how many."""
        before = self.compaction.given_back_bytes
        await self.compaction.reclaim()
        await self.compaction.compact()
        return self.compaction.given_back_bytes - before

    async def usage(self) -> Usage:
        return await self.compaction.usage()

    async def disks(self) -> list[DiskState]:
        """Every disk there ever was."""
        states = []
        for id, directory, zone, state in await self._engine.known_disks():
            disk = self._engine.store.disks.get(id)
            free_bytes, total_bytes = (0, 0) if disk is None or not disk.present() else disk.space()
            segments = [] if disk is None else list(disk.segments.values())
            used_bytes = sum(segment.size for segment in segments)
            states.append(DiskState(id, directory, zone, state, free_bytes, total_bytes, len(segments), used_bytes))
        return states

    async def drain(self, disk: int) -> None:
        """Empties a disk: nothing new goes there, and healing moves what is there to others."""
        await self._engine.drain(disk)
        await self.healing.scan()
        self._wake.set()

    async def convert(self, bucket: str) -> int:
        """Cuts what a bucket holds anew under the profile chosen for it; gives how many stripes and pages were. Its small
        objects leave the pages that they share with those of other buckets."""
        found = await self._database.read(lookups.find_bucket, bucket)
        if found.profile is None:
            return 0
        profile, key, rank, converted = parse_profile(found.profile), b"", 0, 0
        while rows := await self._database.read(lifecycle.rows_after, found.id, key, rank):
            small = []
            for at, row in rows:
                if row.page is None:
                    for stripe, _ in stripe_lengths(row.pieces):
                        converted += await self.healing.restripe(stripe, profile)
                else:
                    small.append((found.id, at, row.rank, row.pieces))
            converted += await self._repack(small, profile)
            key, rank = rows[-1][0], rows[-1][1].rank
        return converted

    async def _repack(self, small: list[SmallRow], profile: Profile) -> int:
        """Moves small objects that lie in a page of another profile to pages of this one; gives how many of these."""
        elsewhere = []
        for one in small:
            stripe = await self._database.read(references.load, next(stripe_lengths(one[3]))[0])
            if stripe is not None and stripe.profile != profile:
                elsewhere.append(one)
        return await self.compaction.repack(elsewhere, profile)

    async def sweep(self) -> None:
        """Lifecycle rules of all buckets, and rows kept for listings that have expired."""
        before_us = self._clock.wall_ns() // 1000 - self._engine.numbers.snapshot_us
        while await self._database.write(lifecycle.sweep, before_us) == lifecycle.ROWS:
            pass
        after = ""
        while found := await self._database.read(buckets.next_with_setting, lifecycle.KIND, after):
            after = found[0]
            await self._expire(*found)

    async def _expire(self, bucket: str, document: bytes) -> int:
        rules, days = lifecycle.decode_rules(document), Days(self._engine.settings.lifecycle_day_seconds)
        now_us = self._clock.wall_ns() // 1000
        found = await self._database.read(lookups.find_bucket, bucket)
        walk, key, rank, done = Walk(rules, now_us, days), b"", 0, 0
        while rows := await self._database.read(lifecycle.rows_after, found.id, key, rank):
            actions = [action for at, row in rows for action in walk.decide(at, row)]
            key, rank = rows[-1][0], rows[-1][1].rank
            done += await self._act(bucket, found.id, actions)
        done += await self._act(bucket, found.id, list(walk.end()))
        for prefix, before_us in lifecycle.due_for_abort(rules, now_us, days):
            done += await self._abort(bucket, found.id, prefix.encode(), before_us)
        return done

    async def _act(self, bucket: str, id: int, actions: list[Action]) -> int:
        done = 0
        for at in range(0, len(actions), ACTIONS_AT_ONCE):
            some = actions[at : at + ACTIONS_AT_ONCE]
            done += await self._database.write(lifecycle.act, self._engine.numbers, bucket, some)
            await self._transition(id, some)
        return done

    async def _transition(self, bucket: int, actions: list[Action]) -> None:
        """Cuts anew what has moved to a storage class with an erasure profile of its own."""
        small: dict[str, list[SmallRow]] = {}
        for action in actions:
            wanted = self._engine.settings.storage_classes.get(action.storage_class)
            if action.kind != lifecycle.CLASS or wanted is None:
                continue
            if action.row.page is not None:
                row = (bucket, action.key.encode(), action.row.rank, action.row.pieces)
                small.setdefault(wanted, []).append(row)
                continue
            for stripe, _ in stripe_lengths(action.row.pieces):
                await self.healing.restripe(stripe, parse_profile(wanted))
        for profile, rows in small.items():
            await self._repack(rows, parse_profile(profile))

    async def _abort(self, bucket: str, id: int, prefix: bytes, before_us: int) -> int:
        aborted, end = 0, beyond(prefix) if prefix else END
        while found := await self._database.read(multipart.begun_before, id, prefix, end, before_us, ABORTS_AT_ONCE):
            for key, upload in found:
                try:
                    await self._database.write(multipart.abort, bucket, key.decode(), upload)
                except NoSuchUpload:
                    continue  # completed meanwhile
                aborted += 1
        return aborted

    async def _heal_for_ever(self) -> None:
        share = self._engine.settings.heal_share_max
        while True:
            await self._wake.wait()
            self._wake.clear()
            while True:
                begun_ns = self._clock.mono_ns()
                try:
                    if await self.healing.heal_next() is None:
                        break
                except Exception:
                    log.exception("a stripe could not be healed")
                took_s = (self._clock.mono_ns() - begun_ns) / 1e9
                await self._clock.sleep(took_s * (1 / share - 1))

    def _measure(self, metrics: Metrics) -> None:
        store, healing, compaction = self._engine.store, self.healing, self.compaction
        metrics.counter("objects_degraded_reads", "Reads that needed parity").follow(lambda: store.degraded_reads)
        metrics.counter("objects_bad_shards", "Shards found missing or damaged").follow(lambda: store.bad_shards)
        metrics.counter("objects_healed", "Stripes that got lost shards again").follow(lambda: healing.healed)
        metrics.counter("objects_lost", "Stripes with too few shards left").follow(lambda: healing.lost)
        metrics.counter("objects_given_back_bytes", "Bytes of segments that compaction removed").follow(
            lambda: compaction.given_back_bytes
        )
        metrics.gauge("objects_heal_waiting", "Stripes that wait to be healed").follow(lambda: healing.waiting)
        metrics.gauge("objects_disks_live", "Disks in use").follow(lambda: len(store.disks))
        metrics.gauge("objects_pages_written", "Shared pages written").follow(lambda: self._engine.pages.written)
