"""A process that uses an object store until it is killed: `python -m tests.storage.objects.crash_child FOLDER SEED`.

Before each step it says what it is about to make of which keys, and after it that this was acknowledged. A content is told
by its SHA-256, None is an absent key.
"""

import asyncio
import hashlib
import json
import os
import random
import sys
from pathlib import Path

from mainspring.core.clock import SystemClock
from mainspring.core.database import SqliteDatabase
from mainspring.storage.objects import Objects
from mainspring.storage.objects.moves import Delete, Source
from mainspring.storage.objects.multipart import Wanted
from mainspring.storage.objects.staging import StagedPut
from mainspring.storage.objects.tables import tables
from tests.storage.objects.conftest import MIGRATIONS, SMALL_BYTES, STRIPE_BYTES, RoomyFiles, small_settings

DISKS = 3
STEPS = 14


async def open_store(folder: Path) -> tuple[SqliteDatabase, Objects]:
    database = SqliteDatabase(
        folder / "objects.db", floor_bytes=0, ballast_bytes=0, write_deadline_s=60, read_deadline_s=60
    )
    await database.start()
    await database.prepare("objects", tables, MIGRATIONS)
    disks = [folder / f"disk{number}" for number in range(DISKS)]
    settings = small_settings(segment_bytes=200_000)
    objects = Objects(database, SystemClock(), settings, directories=disks, files=RoomyFiles())
    await objects.start()
    return database, objects


class Told:
    """What the child says on its standard output, a line at a time."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def body(self, size: int) -> bytes:
        return self.chance.randbytes(size)

    def begin(self, **keys: bytes | None) -> None:
        made = {key: None if body is None else hashlib.sha256(body).hexdigest() for key, body in keys.items()}
        os.write(1, json.dumps(made).encode() + b"\n")

    def done(self) -> None:
        os.write(1, b"done\n")


async def use(objects: Objects, told: Told) -> None:
    for step in range(STEPS):
        small, large = told.body(100 + step), told.body(2 * STRIPE_BYTES + step)
        told.begin(small=small, other=small[:50], medium=large[: SMALL_BYTES + 1])
        await asyncio.gather(
            objects.put("box", "small", small),
            objects.put("box", "other", small[:50]),
            objects.put("box", "medium", large[: SMALL_BYTES + 1]),
        )
        told.done()
        told.begin(large=large)
        await objects.put("box", "large", large)
        told.done()
        told.begin(parts=large + small)
        id = await objects.uploads.begin("box", "parts")
        rows = [await objects.uploads.put_part("box", "parts", id, n, part) for n, part in ((1, large), (2, small))]
        await objects.uploads.complete("box", "parts", id, [Wanted(row.number, row.etag) for row in rows])
        told.done()
        told.begin(copy=large, moved=None)
        await objects.copy(Source("box", "large"), "box", "copy")
        await objects.delete("box", "moved")
        told.done()
        told.begin(copy=None, moved=large)
        await objects.rename("box", "copy", "moved")
        told.done()
        told.begin(one=small, two=large, medium=None)
        await objects.commit("box", [StagedPut("one", small), StagedPut("two", large), Delete("medium")])
        told.done()
        told.begin(large=None)
        await objects.delete("box", "large")
        told.done()
        told.begin()
        await objects.upkeep.compact()
        await damage_and_heal(objects)
        told.done()


async def damage_and_heal(objects: Objects) -> None:
    """Loses a shard of the newest stripe, and mends it."""
    piece = (await objects.pieces("box", "two", "null"))[-20:]
    stripe = await objects.engine.store.find(int.from_bytes(piece[:8], "little"))
    place = stripe.places[0]
    if place is not None:
        path = objects.engine.store.disks[place.disk].segments[place.segment].path
        with path.open("r+b") as file:
            file.seek(place.offset)
            file.write(bytes(64))
    await objects.upkeep.scrub_all()
    await objects.upkeep.heal()


async def main(folder: str, seed: str) -> None:
    database, objects = await open_store(Path(folder))
    await objects.create_bucket("box")
    os.write(1, b"ready\n")
    await use(objects, Told(int(seed)))
    await objects.stop()
    await database.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
