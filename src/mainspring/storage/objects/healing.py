"""Healing: a stripe with missing or damaged shards gets them again, on disks that hold none of its others.

What is nearest to being lost comes first: the queue is ordered by how many more shards a stripe can lose. Where too few disks
are left for the stripe's own profile, it is cut anew under the one that they allow, so that full redundancy returns on what
is there and as many disks again may be lost. When disks are there again, what was written meanwhile with less parity than they
allow is cut anew as well, unless its profile is one that somebody chose. Where a stripe lies changes by comparing its row with
what was read, so that healing, compaction and deletes may race.
"""

import asyncio
import heapq
import logging

import msgspec
from sqlalchemy import select

from mainspring.core.crash import crash_point
from mainspring.core.ports import Connection, Database
from mainspring.storage.objects import references
from mainspring.storage.objects.erasure import Profile, decode, encode, parse_profile, reconstruct
from mainspring.storage.objects.errors import ObjectsError
from mainspring.storage.objects.references import Stripe
from mainspring.storage.objects.settings import ObjectsSettings
from mainspring.storage.objects.stripes import StripeStore, Written
from mainspring.storage.objects.tables import bucket

log = logging.getLogger(__name__)

QUEUE_MAX = 100_000
ROWS = 500

_CHOSEN = select(bucket.c.profile).where(bucket.c.profile.is_not(None)).distinct()


class Healing:
    """The queue of stripes to look at. What does not fit is found again by `scan`."""

    def __init__(self, store: StripeStore, database: Database, settings: ObjectsSettings) -> None:
        self.healed = self.lost = 0
        self._settings = settings
        self._store = store
        self._database = database
        self._queue: list[tuple[int, int]] = []
        self._queued: dict[int, int] = {}
        self._one_at_a_time = asyncio.Lock()

    @property
    def waiting(self) -> int:
        return len(self._queued)

    def note(self, stripe: Stripe, missing: int | None = None) -> None:
        """Queues a stripe; `missing` is how many of its shards are known to be gone."""
        gone = self._absent(stripe) if missing is None else missing
        left = stripe.m - gone
        if self._queued.get(stripe.id, left + 1) <= left or len(self._queued) >= QUEUE_MAX:
            return
        self._queued[stripe.id] = left
        heapq.heappush(self._queue, (left, stripe.id))

    async def scan(self) -> int:
        """Queues every stripe that has a shard on no live disk, or on one that is to be emptied, or has less parity than it
        could; gives how many."""
        found = after = 0
        chosen = await self._chosen()
        while rows := await self._database.read(references.stripes_after, after, ROWS):
            for stripe, _ in rows:
                gone = self._absent(stripe)
                if gone or self._is_thin(stripe, chosen):
                    self.note(stripe, gone)
                    found += 1
            after = rows[-1][0].id
        return found

    async def heal_next(self) -> int | None:
        """Heals the stripe nearest to being lost; gives its size, None where none waits."""
        async with self._one_at_a_time:
            while self._queue:
                left, id = heapq.heappop(self._queue)
                if self._queued.get(id) == left:
                    del self._queued[id]
                    return await self.heal(id)
        return None

    async def heal_all(self) -> None:
        """Heals all that waits; what another is healing just now is done too when this returns."""
        while await self.heal_next() is not None:
            pass

    async def heal(self, id: int) -> int:
        """Reads every shard of a stripe and replaces the bad; gives the bytes looked after."""
        stripe = await self._database.read(references.load, id)
        if stripe is None:
            return 0
        good, bad = await self._store.shards.fragments(stripe, len(stripe.places))
        kept = {index for index in good if not self._is_leaving(stripe, index)}
        if len(kept) == len(stripe.places):
            await self._thicken(stripe)
            return stripe.size
        if len(good) < stripe.k:
            self.lost += 1
            log.error("stripe %d is lost: of %s the shards %s are missing", id, stripe.profile, bad)
            return stripe.size
        try:
            written = await self._rebuild(stripe, good, kept)
        except ObjectsError as error:
            log.warning("stripe %d cannot be healed now: %s", id, error)
            return stripe.size
        if await self._replace(stripe, written):
            self.healed += 1
        return stripe.size

    async def _thicken(self, stripe: Stripe) -> None:
        """Cuts a whole stripe anew where the disks that are there now allow more parity."""
        allowed = self._store.placing.allowed()
        if allowed is None or not self._is_thin(stripe, await self._chosen()):
            return
        try:
            if await self.restripe(stripe.id, allowed):
                self.healed += 1
        except ObjectsError as error:
            log.warning("stripe %d cannot be cut anew now: %s", stripe.id, error)

    async def restripe(self, id: int, profile: Profile) -> bool:
        """Cuts a stripe anew under another profile. Gives False where it has it, or went away."""
        stripe = await self._database.read(references.load, id)
        if stripe is None or stripe.profile == profile:
            return False
        written = await self._cut_anew(stripe, await self._store.payload(stripe), profile)
        return await self._replace(stripe, written)

    async def _rebuild(self, stripe: Stripe, good: dict[int, bytes], kept: set[int]) -> Written:
        """The stripe with the shards that are not `kept` written again."""
        missing = [index for index in range(len(stripe.places)) if index not in kept]
        used = frozenset(place.disk for index in kept if (place := stripe.places[index]) is not None)
        disks = self._store.placing.roomy(used, len(missing))
        profile = stripe.profile
        if len(disks) < len(missing):
            payload = await self._store.run(decode, good, profile, stripe.size)
            return await self._cut_anew(stripe, payload, self._store.placing.choose()[0])
        fragments = dict(good)
        lacking = [index for index in missing if index not in good]
        if lacking:
            rebuilt = await self._store.run(reconstruct, [good[index] for index in sorted(good)], lacking, profile)
            fragments.update(zip(lacking, rebuilt, strict=True))
        blank = msgspec.structs.replace(
            stripe, places=tuple(place if index in kept else None for index, place in enumerate(stripe.places))
        )
        targets = [(index, disk, fragments[index]) for index, disk in zip(missing, disks, strict=False)]
        return (await self._store.write_shards(blank, targets))[0]

    async def _cut_anew(self, stripe: Stripe, payload: bytes, profile: Profile) -> Written:
        profile, disks = self._store.placing.choose(profile)
        blank = Stripe(stripe.id, *profile, stripe.size, (None,) * profile.shards)
        fragments = await self._store.run(encode, payload, profile)
        targets = list(zip(range(profile.shards), disks, fragments, strict=True))
        return (await self._store.write_shards(blank, targets))[0]

    async def _replace(self, before: Stripe, written: Written) -> bool:
        """Makes the new shards durable, and then the stripe's. Gives False where another was faster."""
        try:
            await self._store.sync([written])
            crash_point("objects.heal.synced")
            moved = await self._database.write(references.move, before, written.stripe)
        finally:
            self._store.forget(before.id)
            self._store.unpin(written)
        return moved

    async def _chosen(self) -> set[Profile]:
        """Profiles that are what somebody wants, be they thin."""
        names = await self._database.read(_profiles_of_buckets)
        return {parse_profile(name) for name in (*names, *self._settings.storage_classes.values())}

    def _is_thin(self, stripe: Stripe, chosen: set[Profile]) -> bool:
        """Whether it was written when fewer disks were there than now."""
        allowed = self._store.placing.allowed()
        return allowed is not None and stripe.m < allowed.m and stripe.profile not in chosen

    def _absent(self, stripe: Stripe) -> int:
        """How many shards are where they cannot stay."""
        return sum(place is None or self._is_leaving(stripe, index) for index, place in enumerate(stripe.places))

    def _is_leaving(self, stripe: Stripe, index: int) -> bool:
        place = stripe.places[index]
        disk = None if place is None else self._store.disks.get(place.disk)
        return disk is None or disk.draining or disk.lost is not None


def _profiles_of_buckets(connection: Connection) -> list[str]:
    return [row[0] for row in connection.execute(_CHOSEN).all()]
