"""The object store's engine in process, against itself: what parity costs, what lost disks cost, and how fast it heals.

One machine has one disk behind all directories, so `4+2` writes one and a half times the bytes of `1+0` to it: the line for
PUT counts bytes written, as the spec does. Small puts are durable ones of many callers at once.
"""

import asyncio
import os
import random
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

import mainspring.storage.objects
from bench.comparison import Comparison, alternate
from mainspring.core.clock import SystemClock
from mainspring.core.database import SqliteDatabase
from mainspring.storage.objects import Objects, ObjectsSettings
from mainspring.storage.objects.tables import tables

MIGRATIONS = Path(mainspring.storage.objects.__file__).parent / "migrations"
LARGE = 32 << 20
SMALL = 4096
CALLERS = 64
KEYS = 20_000
MIB = 1 << 20

Work = Callable[[Objects, float], Awaitable[float]]


def run(seconds: float) -> list[Comparison]:
    """Megabytes and calls a second; the ratio is ours (the first named) to the other."""
    return [
        _against("PUT 32 MiB, 4+2 by bytes written", 6, _put_written, "1+0", 1, _put_written, "MiB/s", seconds, 0.8),
        _against("GET 32 MiB, 2 of 6 lost", 6, _get_degraded, "intact", 6, _get, "MiB/s", seconds, 0.6),
        _against("heal 4+2", 6, _heal, "PUT 4+2", 6, _put, "MiB/s", seconds, 0.5),
        _healing(seconds),
        _against("PUT 4 KiB, 64 callers", 1, _small, "1 caller", 1, _small_alone, "puts/s", seconds, None),
        _against("PUT 4 KiB, 64 callers, 4+2", 6, _small, "1+0", 1, _small, "puts/s", seconds, None),
        _against("GET 4 KiB", 1, _get_small, "4+2", 6, _get_small, "gets/s", seconds, None),
        _listing(seconds),
        _disk(),
    ]


def _against(
    name: str,
    disks: int,
    ours: Work,
    peer: str,
    peer_disks: int,
    other: Work,
    unit: str,
    seconds: float,
    target: float | None,
) -> Comparison:
    own, theirs = alternate(
        lambda each: _with_store(disks, ours, each), lambda each: _with_store(peer_disks, other, each), seconds
    )
    return Comparison(name, own, f"ourselves, {peer}", theirs, unit, target=target)


def _with_store(disks: int, work: Work, seconds: float) -> float:
    folder = Path(tempfile.mkdtemp(prefix="mainspring-bench-"))

    async def whole() -> float:
        database = SqliteDatabase(folder / "objects.db", floor_bytes=0)
        await database.start()
        await database.prepare("objects", tables, MIGRATIONS)
        directories = [folder / f"disk{number}" for number in range(disks)]
        settings = ObjectsSettings(adopt_lost=True)
        objects = Objects(database, SystemClock(), settings, directories=directories)
        await objects.start()
        await objects.create_bucket("bench")
        try:
            return await work(objects, seconds)
        finally:
            await objects.stop()
            await database.stop()

    try:
        return uvloop.run(whole())
    finally:
        shutil.rmtree(folder)


async def _put(objects: Objects, seconds: float) -> float:
    body, done, begun = os.urandom(LARGE), 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        await objects.put("bench", f"k{done % 4}", body)
        done += 1
    return done * LARGE / MIB / (time.perf_counter() - begun)


async def _put_written(objects: Objects, seconds: float) -> float:
    """Bytes that went to disks, parity included."""
    profile, _ = objects.engine.store.placing.choose()
    return await _put(objects, seconds) * profile.shards / profile.k


async def _get(objects: Objects, seconds: float) -> float:
    await objects.put("bench", "k", os.urandom(LARGE))
    return await _read_all(objects, seconds)


async def _get_degraded(objects: Objects, seconds: float) -> float:
    await objects.put("bench", "k", os.urandom(LARGE))
    # Nothing heals meanwhile: what is measured is reading from what is left.
    await objects.upkeep.stop()
    for disk in list(objects.engine.store.disks.values())[:2]:
        disk.fail("taken away by the bench")
    return await _read_all(objects, seconds)


async def _read_all(objects: Objects, seconds: float) -> float:
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        async for chunk in await objects.get("bench", "k"):
            done += len(chunk)
    return done / MIB / (time.perf_counter() - begun)


async def _heal(objects: Objects, seconds: float) -> float:
    """Payload made whole again after a directory was removed, without pauses for others."""
    body, count = os.urandom(LARGE), max(2, int(seconds))
    for number in range(count):
        await objects.put("bench", f"k{number}", body)
    await objects.upkeep.stop()
    shutil.rmtree(next(iter(objects.engine.store.disks.values())).directory)
    begun = time.perf_counter()
    await objects.upkeep.heal()
    return count * LARGE / MIB / (time.perf_counter() - begun)


def _healing(seconds: float) -> Comparison:
    """The 99th percentile of small reads and durable small puts, one after the other, while a lost directory is healed at
    its cap and while nothing is healed."""
    busy, quiet = alternate(
        lambda each: _with_store(6, _while_healing, each), lambda each: _with_store(6, _undisturbed, each), seconds
    )
    return Comparison(
        "p99 of small calls while healing", busy, "not healing", quiet, "ms", higher_is_better=False, target=1 / 1.3
    )


async def _while_healing(objects: Objects, seconds: float) -> float:
    body = os.urandom(LARGE)
    for number in range(max(4, int(8 * seconds))):  # more than is healed meanwhile
        await objects.put("bench", f"k{number}", body)
    shutil.rmtree(next(iter(objects.engine.store.disks.values())).directory)
    await objects.look_after_disks()
    p99_ms = await _undisturbed(objects, seconds)
    assert objects.upkeep.healing.healed, "nothing was healed meanwhile"
    return p99_ms


async def _undisturbed(objects: Objects, seconds: float) -> float:
    body, took_ms, until = os.urandom(SMALL), [], time.perf_counter() + seconds
    while (begun := time.perf_counter()) < until:
        await objects.put("bench", "small", body)
        await (await objects.get("bench", "small")).read()
        took_ms.append((time.perf_counter() - begun) * 1000)
    return sorted(took_ms)[int(len(took_ms) * 0.99)]


async def _small(objects: Objects, seconds: float, callers: int = CALLERS) -> float:
    body, done, until = os.urandom(SMALL), 0, time.perf_counter() + seconds

    async def caller(number: int) -> None:
        nonlocal done
        step = 0
        while time.perf_counter() < until:
            await objects.put("bench", f"{number}/{step}", body)
            step += 1
            done += 1

    await asyncio.gather(*(caller(number) for number in range(callers)))
    return done / seconds


async def _small_alone(objects: Objects, seconds: float) -> float:
    return await _small(objects, seconds, 1)


async def _get_small(objects: Objects, seconds: float) -> float:
    await asyncio.gather(*(objects.put("bench", f"{number}", os.urandom(SMALL)) for number in range(1000)))
    chance, done, begun = random.Random(1), 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        await (await objects.get("bench", str(chance.randrange(1000)))).read()
        done += 1
    return done / (time.perf_counter() - begun)


def _listing(seconds: float) -> Comparison:
    """Pages of 1,000 keys, beside one page of 100 common prefixes over the same keys."""
    plain: list[float] = []
    rolled: list[float] = []

    async def work(objects: Objects, each: float) -> float:
        for at in range(0, KEYS, 1000):
            await asyncio.gather(*(objects.put("bench", f"{n % 100:02}/{n}", b"") for n in range(at, at + 1000)))
        for figures, asked in ((plain, {}), (rolled, {"delimiter": "/"})):
            done, begun = 0, time.perf_counter()
            while time.perf_counter() - begun < each / 2:
                await objects.list("bench", **asked)
                done += 1
            figures.append(done / (time.perf_counter() - begun))
        return 0.0

    _with_store(1, work, seconds)
    return Comparison(
        "100 prefixes over 20,000 keys", rolled, "ourselves, a first page of 1,000 keys", plain, "pages/s"
    )


def _disk() -> Comparison:
    """What objects of 1 KiB take on disk in all, database and segments, beside their bodies."""
    used: list[float] = []

    async def work(objects: Objects, each: float) -> float:
        body = os.urandom(1024)
        for at in range(0, KEYS, 1000):
            await asyncio.gather(*(objects.put("bench", f"photos/{n:08}", body) for n in range(at, at + 1000)))
        folder = next(iter(objects.engine.store.disks.values())).directory.parent
        await objects.database.backup_to(folder / "copy.db")
        segments = sum(path.stat().st_blocks * 512 for path in folder.rglob("*.segment"))
        used.append((segments + (folder / "copy.db").stat().st_size) / KEYS)
        return 0.0

    _with_store(1, work, 0)
    return Comparison(
        "an object of 1 KiB on disk",
        used,
        "1.5 GB for a million",
        [1500.0],
        "bytes",
        higher_is_better=False,
        target=1.0,
    )
