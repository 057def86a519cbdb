"""The object store under everything that befalls a machine and its disks: `mainspring simulate objects`.

The real engine runs on disks that tear at a power failure, a database that loses what it had not answered for, threads whose
order is chance, and clocks that are off. Clients put, complete, delete, commit, rename, copy and list at once. Meanwhile
the store compacts, scrubs and heals; a directory is lost, a disk answers EIO or is full, bits rot; and the power fails between
any two steps. No more shards are lost than parity can replace: how much that is follows from the number of disks, 1 to 4.

The two halves of a put are durable apart from each other, so what the simulation must allow is every pair of states: of the
shards' files whatever their syncs left (`core.simulator.disk`), of the rows the state at a commit not older than the last one
that was answered (`core.simulator.database`, which says why that is all that is asked of it).

Checked: every read gives what was put, by its SHA-256; the histories of all keys are linearizable, those of conditional
writes and of listings in pages among them; what was committed together is seen together; what was refused or broke off is
never seen; versions stay until they are deleted, and under lock they cannot be. At the end, eleven quiet minutes later: all
redundancy has returned, references are counted right, and no disk holds a byte of before that no row ever named.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import select

from mainspring.core.linear import check, compare_and_set
from mainspring.core.ports import Connection
from mainspring.core.simulator.database import SimulatedDatabase, Stored
from mainspring.core.simulator.loop import SimulatedClock, SimulatedLoop
from mainspring.storage.objects import Objects, ObjectsSettings, references
from mainspring.storage.objects.compaction import extent_of
from mainspring.storage.objects.erasure import default_profile
from mainspring.storage.objects.model import stripe_lengths
from mainspring.storage.objects.references import Stripe
from mainspring.storage.objects.simulated_files import Shelf, SimulatedFiles
from mainspring.storage.objects.simulation_clients import (
    BOX,
    SMALL_BYTES,
    STRIPE_BYTES,
    VAULT,
    Client,
    Mover,
    Notes,
    read_everything,
)
from mainspring.storage.objects.tables import part, tables, version

MIGRATIONS = Path(__file__).parent / "migrations"
LIVES_MAX = 4
LIFE_S = 0.5
STEPS = 12
QUIET_S = 660.0
SKEW_S = 1000.0
JOBS_S = {"look_after_disks": 30, "sweep": 60, "scrub": 60, "compact": 300}
"""How often each duty is called, as `system.toml` says."""

MakeFiles = Callable[[Shelf], SimulatedFiles]

_EVER = "CREATE TABLE ever (id INTEGER, placement BLOB, k INTEGER, m INTEGER, size INTEGER)"
_NOTE_EVER = """CREATE TRIGGER ever_{0} AFTER {0} ON objects_stripe BEGIN
INSERT INTO ever VALUES (NEW.id, NEW.placement, NEW.k, NEW.m, NEW.size); END"""
"""Every place that a row ever gave a stripe, noted beside the rows: what lies elsewhere was never anybody's."""


class World:
    """What outlives the machine: its disks, its database, the time, and what clients saw."""

    def __init__(self, seed: int, make_files: MakeFiles) -> None:
        self.random = Random(seed)
        self.notes = Notes(self.random)
        self.shelf = Shelf(self.random)
        self.stored = Stored()
        self.stored.prepare("objects", tables, MIGRATIONS)
        for statement in (_EVER, _NOTE_EVER.format("INSERT"), _NOTE_EVER.format("UPDATE")):
            self.stored.raw.execute(statement)
        self.directories = [Path(f"/disk{number}") for number in range(self.random.randint(1, 4))]
        self.now_s = 0.0
        self.whole = True
        self._make_files = make_files

    def live(self, life: "Callable[[Machine], Awaitable[None]]") -> None:
        """One life of the machine: as long as `life` runs, then the power fails."""
        loop = SimulatedLoop(self.random, self.now_s)
        try:
            loop.run_until_complete(self._live(loop, life))
        finally:
            self.now_s = loop.now_s
            loop.close()

    async def _live(self, loop: SimulatedLoop, life: "Callable[[Machine], Awaitable[None]]") -> None:
        machine = Machine(self, loop, self._make_files(self.shelf))
        try:
            await life(machine)
        finally:
            await machine.crash()

    def of(self, share: float) -> bool:
        """True in about that share of the cases."""
        return self.random.random() < share


class Machine:
    """One life: a store, and what befalls its disks meanwhile."""

    def __init__(self, world: World, loop: SimulatedLoop, files: SimulatedFiles) -> None:
        self.world = world
        self.up = True
        self.files = files
        clock = SimulatedClock(loop, world.random.uniform(-SKEW_S, SKEW_S))
        self.database = SimulatedDatabase(world.stored, clock, world.random)
        settings = ObjectsSettings(
            stripe_bytes=STRIPE_BYTES,
            small_bytes=SMALL_BYTES,
            page_bytes=4 * SMALL_BYTES,
            segment_bytes=3 * STRIPE_BYTES,
            part_bytes_min=1,
            stream_wait_s=0.5,
        )
        self.objects = Objects(
            self.database,
            clock,
            settings,
            directories=world.directories,
            files=files,
            random=world.random.randbytes,
        )

    def client(self, kind: type[Client] = Client) -> Client:
        return kind(self.world.notes, self.objects, lambda: self.up)

    async def crash(self) -> None:
        """The power fails, in the middle of whatever runs."""
        self.up = False
        self.files.end()
        self.database.end()
        self.world.shelf.crash()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def start(self) -> None:
        self.world.shelf.sick.clear()
        for disk in self.world.shelf.folders.values():
            disk.bytes_max = None
        await self.objects.start()
        for name, lock in ((BOX, False), (VAULT, True)):
            if name not in {one.name for one in await self.objects.list_buckets()}:
                await self.objects.create_bucket(name, lock=lock)

    async def upkeep(self) -> None:
        """The jobs, much more often than they would come, and one mishap after the other, each mended before the next."""
        random, upkeep = self.world.random, self.objects.upkeep
        mishaps = [self.lose_a_directory, self.fall_sick, self.rot] if len(self.world.directories) > 1 else []
        mishaps.append(self.fill_up)
        while True:
            await asyncio.sleep(random.random() * 0.06)
            if not self.world.whole:
                await self.mend()
            await random.choice((upkeep.compact, upkeep.compact, upkeep.look, upkeep.sweep, upkeep.scrub))()
            if self.world.of(0.2):
                await random.choice(mishaps)()

    async def mend(self) -> None:
        """Heals until every stripe has all of its shards again."""
        self.world.shelf.sick.clear()
        self.objects.engine.store.placing.forget_space()
        for _ in range(20):
            # The first ends a round that may have passed what was damaged since.
            await self.objects.upkeep.scrub_all()
            await self.objects.upkeep.scrub_all()
            await self.objects.upkeep.heal()
            if not await self.objects.database.read(_thin, set(self.objects.engine.store.disks)):
                self.world.whole = True
                return
            await asyncio.sleep(0.05)
        raise AssertionError("redundancy does not return")

    async def lose_a_directory(self) -> None:
        self.world.whole = False
        self.world.shelf.remove(self.world.random.choice(self.world.directories))
        await asyncio.sleep(self.world.random.random() * 0.03)

    async def fall_sick(self) -> None:
        self.world.whole = False
        self.world.shelf.sick.add(self.world.random.choice(self.world.directories))
        await asyncio.sleep(self.world.random.random() * 0.03)

    async def fill_up(self) -> None:
        """A disk without room for more: of a write that does not fit a part may be there."""
        disk = self.world.random.choice(list(self.world.shelf.folders.values()))
        disk.bytes_max = sum(map(disk.size, disk.names())) + self.world.random.randrange(30_000)
        await asyncio.sleep(self.world.random.random() * 0.03)
        disk.bytes_max = None
        # What was not written there lacks a shard.
        self.world.whole = len(self.world.directories) == 1

    async def rot(self) -> None:
        """One bit of a disk turns, or a few sectors read as zeros."""
        self.world.whole = False
        random = self.world.random
        disk = self.world.shelf.folders[random.choice(sorted(self.world.shelf.folders))]
        names = [name for name in sorted(disk.names()) if name.endswith(".segment") and disk.size(name)]
        if names:
            name = random.choice(names)
            at = random.randrange(disk.size(name))
            old = disk.read(name, at, 1 if random.random() < 0.5 else 2000)
            disk.write(name, at, bytes([old[0] ^ 1 << random.randrange(8)]) if len(old) == 1 else bytes(len(old)))
            disk.sync(name)


def run(seed: int, make_files: MakeFiles = SimulatedFiles) -> None:
    """Raises `AssertionError` where a promise was broken."""
    with _silence():
        world = World(seed, make_files)
        try:
            for _ in range(world.random.randint(1, LIVES_MAX)):
                world.live(_busy_life)
            world.live(_last_life)
        finally:
            world.stored.close()
        violation = check(world.notes.history, compare_and_set(None))
        assert violation is None, str(violation)


async def _busy_life(machine: Machine) -> None:
    """Clients and upkeep, until the power fails."""
    random = machine.world.random
    ends = asyncio.ensure_future(asyncio.sleep(random.random() * LIFE_S))
    starting = asyncio.ensure_future(machine.start())
    await asyncio.wait((ends, starting), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        return
    starting.result()
    clients = [machine.client() for _ in range(random.randint(1, 3))] + [machine.client(Mover)]
    work = [asyncio.ensure_future(client.run(STEPS)) for client in clients]
    work.append(asyncio.ensure_future(machine.upkeep()))
    while not ends.done():
        await asyncio.wait((ends, *(one for one in work if not one.done())), return_when=asyncio.FIRST_COMPLETED)
        for one in work:
            if one.done():
                one.result()
    await machine.crash()
    for one in work:
        if not one.cancelled() and (error := one.exception()) is not None and not _of_the_crash(error):
            raise error


async def _last_life(machine: Machine) -> None:
    """Nothing fails any more. What was acknowledged is there, and all is in order some minutes later."""
    await machine.start()
    await read_everything(machine.client())
    await machine.mend()
    before = {(disk.id, one) for disk in machine.objects.engine.store.disks.values() for one in disk.segments}
    jobs = [asyncio.ensure_future(_call_every(getattr(machine.objects, job), s)) for job, s in JOBS_S.items()]
    await asyncio.sleep(QUIET_S)
    for job in jobs:
        job.cancel()
    await read_everything(machine.client())
    told, counted = await machine.database.read(references_found)
    assert told == counted, f"bytes that are referred to are counted as {told} and are {counted}"
    await _ensure_whole(machine)
    _ensure_no_orphan(machine, before)


async def _call_every(job: Callable[[], Awaitable[None]], seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        await job()


async def _ensure_whole(machine: Machine) -> None:
    store, after = machine.objects.engine.store, 0
    while rows := await machine.database.read(references.stripes_after, after, 100):
        for stripe, _ in rows:
            assert stripe.m >= default_profile(len(store.disks)).m, (
                f"{stripe} has less parity than {len(store.disks)} disks allow"
            )
            good, bad = await store.shards.fragments(stripe, len(stripe.places))
            assert len(good) == len(stripe.places), f"{stripe} lacks {bad}"
        after = rows[-1][0].id


def _ensure_no_orphan(machine: Machine, before: set[tuple[int, int]]) -> None:
    """Every byte of these segments that is not zero lies where a row once said that a shard is."""
    spans: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for id, placement, k, m, size in machine.world.stored.raw.execute("SELECT * FROM ever").fetchall():
        stripe = references.unpack_stripe(id, k, m, size, placement)
        for place in stripe.places:
            if place is not None:
                spans.setdefault((place.disk, place.segment), []).append((place.offset, extent_of(stripe)))
    for disk in machine.objects.engine.store.disks.values():
        folder = machine.world.shelf.folders[disk.directory]
        for segment in (one for one in disk.segments.values() if (disk.id, one.number) in before):
            data, at = folder.read(segment.path.name), 0
            for offset, length in [*sorted(spans.get((disk.id, segment.number), [])), (len(data), 0)]:
                assert not any(data[at:offset]), f"{segment.path} holds an orphan between {at} and {offset}"
                at = max(at, offset + length)


def references_found(connection: Connection) -> tuple[dict[int, int], dict[int, int]]:
    """Live bytes of each stripe, as its row says and as counted from everything that refers to it."""
    told = {stripe.id: live for stripe, live in references.stripes_after(connection, 0, 1_000_000)}
    counted: dict[int, int] = {}
    for statement in (select(version.c.pieces), select(part.c.pieces)):
        for (pieces,) in connection.execute(statement).all():
            for id, length in stripe_lengths(pieces):
                counted[id] = counted.get(id, 0) + length
    return told, counted


def _thin(connection: Connection, live: set[int]) -> list[Stripe]:
    """Stripes that lack a shard, or have one where no disk is."""
    return [
        stripe
        for stripe, _ in references.stripes_after(connection, 0, 1_000_000)
        if any(place is None or place.disk not in live for place in stripe.places)
    ]


def _of_the_crash(error: BaseException) -> bool:
    """Upkeep that the power failure interrupted says so in many ways; a client says nothing else than what it saw."""
    return not isinstance(error, AssertionError)


@contextmanager
def _silence() -> Any:
    """What the store logs of thousands of faults is not for reading."""
    logger = logging.getLogger("mainspring.storage.objects")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
