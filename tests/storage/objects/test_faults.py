"""What breaks on disks: damaged and missing shards, lost directories, full ones. Never wrong bytes, and redundancy returns."""

import asyncio
import logging
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from mainspring.core.clock import SystemClock
from mainspring.storage.objects import Objects, proof, references
from mainspring.storage.objects.errors import ElsewhereError, InternalError, ServiceUnavailable, StorageFull
from mainspring.storage.objects.model import unpack_pieces
from mainspring.storage.objects.references import Stripe
from mainspring.storage.objects.tables import tables
from tests.fixtures_database import PostgresServer, postgres_database
from tests.storage.objects.conftest import (
    MIGRATIONS,
    SMALL_BYTES,
    STRIPE_BYTES,
    MakeStore,
    RoomyFiles,
    Store,
    bytes_of,
    keys_of,
    small_settings,
)
from tests.storage.objects.consistency import assert_consistent


async def fill(objects: Objects, count: int = 12, bucket: str = "box") -> dict[str, bytes]:
    """Objects of all sizes, some of which share pages."""
    chance = random.Random(7)
    bodies = {f"k{number:02}": chance.randbytes((number % 4) ** 3 * 11_000 + number * 100) for number in range(count)}
    await objects.create_bucket(bucket)
    await asyncio.gather(*(objects.put(bucket, key, body) for key, body in bodies.items()))
    return bodies


async def assert_intact(objects: Objects, bodies: dict[str, bytes]) -> None:
    assert await keys_of(objects) == sorted(bodies)
    for key, body in bodies.items():
        assert await bytes_of(objects, key) == body, key


async def stripes_of(objects: Objects, key: str) -> list[Stripe]:
    found = await objects.pieces("box", key, "null")
    return [await objects.engine.store.find(piece.stripe) for piece in unpack_pieces(found)]


async def all_stripes(objects: Objects) -> list[Stripe]:
    rows = await objects.database.read(references.stripes_after, 0, 10_000)
    return [stripe for stripe, _ in rows]


def shard_file(objects: Objects, stripe: Stripe, index: int) -> tuple[Path, int]:
    place = stripe.places[index]
    assert place is not None
    return objects.engine.store.disks[place.disk].segments[place.segment].path, place.offset


async def whole(objects: Objects) -> bool:
    """Whether every stripe has all of its shards, each on a live disk of its own."""
    live = set(objects.engine.store.disks)
    for stripe in await all_stripes(objects):
        disks = [place.disk for place in stripe.places if place is not None]
        if len(set(disks)) != stripe.profile.shards or not live.issuperset(disks):
            return False
        good, _ = await objects.engine.store.shards.fragments(stripe, len(stripe.places))
        if len(good) != stripe.profile.shards:
            return False
    return True


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0x10]))


def zero(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(5000))


def cut(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.truncate(offset)


DAMAGES = {
    "a flipped bit": (flip, 200),
    "a flipped bit in the header": (flip, 9),
    "zeros": (zero, 64),
    "a file cut short": (cut, 70),
}


@pytest.mark.parametrize("kind", DAMAGES)
async def test_a_damaged_shard_is_answered_from_parity_and_healed(make_store: MakeStore, kind: str) -> None:
    store = await make_store(6)
    objects = store.objects
    bodies = await fill(objects)
    damage, at = DAMAGES[kind]
    for key in ("k03", "k09"):
        for stripe in (await stripes_of(objects, key))[:1]:
            path, offset = shard_file(objects, stripe, 0)
            damage(path, offset + at)
    await assert_intact(objects, bodies)
    await objects.upkeep.scrub_all()
    await objects.upkeep.heal()
    assert await whole(objects)
    report = await proof.prove(objects, "box")
    assert (report.bad_shards, report.failed, report.redundancy_min) == (0, 0, 2) and report.proven == len(bodies)
    await assert_intact(await store.again(), bodies)


async def test_without_parity_a_flipped_bit_is_an_error_and_never_a_wrong_byte(
    make_store: MakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    objects = (await make_store(1)).objects
    bodies = await fill(objects)
    for key in ("k03", "k01"):
        stripe = (await stripes_of(objects, key))[0]
        piece = unpack_pieces(await objects.pieces("box", key, "null"))[0]
        path, offset = shard_file(objects, stripe, 0)
        flip(path, offset + 64 + piece.offset)
        with caplog.at_level(logging.ERROR), pytest.raises(InternalError):
            await bytes_of(objects, key)
        assert f"stripe {stripe.id} cannot be read" in caplog.text
    report = await proof.prove(objects, "box")
    assert report.failed == 2 and report.bad_shards >= 1
    assert await bytes_of(objects, "k02") == bodies["k02"]


async def test_two_of_six_directories_go_twice_and_nothing_is_lost(make_store: MakeStore) -> None:
    store = await make_store(6)
    objects = store.objects
    bodies = await fill(objects)
    for lost in ((0, 3), (1, 2)):
        for number in lost:
            shutil.rmtree(store.directories[number])
        await assert_intact(objects, bodies)
        key = f"written without {lost}"
        bodies[key] = random.Random(1).randbytes(3 * STRIPE_BYTES)
        await objects.put("box", key, bodies[key])
        await objects.put("box", key + " small", b"small")
        bodies[key + " small"] = b"small"
        await assert_intact(objects, bodies)
        assert await objects.upkeep.heal()
        assert await whole(objects)
    await assert_intact(await store.again(), bodies)
    assert {disk.state for disk in await store.objects.upkeep.disks()} == {"live", "lost"}


async def test_full_redundancy_returns_on_four_disks_where_two_are_not_replaced(make_store: MakeStore) -> None:
    store = await make_store(6, adopt_lost=False)
    objects = store.objects
    bodies = await fill(objects)
    for number in (0, 1):
        shutil.rmtree(store.directories[number])
    await objects.upkeep.heal()
    assert await whole(objects)
    assert {str(stripe.profile) for stripe in await all_stripes(objects)} == {"2+2"}
    for number in (2, 3):
        shutil.rmtree(store.directories[number])
    await assert_intact(objects, bodies)
    assert len(objects.engine.store.disks) == 4
    await objects.upkeep.heal()
    assert {str(stripe.profile) for stripe in await all_stripes(objects)} == {"1+1"}
    await assert_intact(await store.again(), bodies)


async def test_three_of_six_directories_gone_is_an_error_that_names_the_shards(
    make_store: MakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    store = await make_store(6)
    objects = store.objects
    bodies = await fill(objects)
    for number in (0, 2, 5):
        shutil.rmtree(store.directories[number])
    objects = await store.again()
    with caplog.at_level(logging.ERROR), pytest.raises(InternalError):
        await bytes_of(objects, "k03")
    assert "the shards" in caplog.text and "are missing" in caplog.text
    await objects.put("box", "new", b"new")
    assert await bytes_of(objects, "new") == b"new"
    await objects.upkeep.heal()
    assert objects.upkeep.healing.lost
    assert await keys_of(objects) == sorted([*bodies, "new"])


async def test_directories_that_are_gone_at_the_start_are_adopted_and_filled_again(make_store: MakeStore) -> None:
    store = await make_store(3)
    bodies = await fill(store.objects)
    await store.objects.stop()
    shutil.rmtree(store.directories[1])
    objects = await store.open()
    await assert_intact(objects, bodies)
    await objects.upkeep.heal()
    assert await whole(objects)


async def test_a_directory_of_another_store_is_left_alone(make_store: MakeStore) -> None:
    store = await make_store(3)
    bodies = await fill(store.objects)
    await store.objects.stop()
    foreign = store.directories[1] / "disk.json"
    foreign.write_text('{"store":"other","disk":2}')
    objects = await store.open()
    assert len(objects.engine.store.disks) == 2
    await assert_intact(objects, bodies)
    assert foreign.read_text() == '{"store":"other","disk":2}'


async def test_a_drained_disk_ends_empty(make_store: MakeStore) -> None:
    store = await make_store(4)
    objects = store.objects
    bodies = await fill(objects)
    drained = min(objects.engine.store.disks)
    await objects.upkeep.drain(drained)
    await objects.upkeep.heal()
    assert all(place is None or place.disk != drained for one in await all_stripes(objects) for place in one.places)
    await assert_intact(objects, bodies)


class FailingFiles(RoomyFiles):
    """Writes or syncs below one directory fail as told."""

    def __init__(self) -> None:
        super().__init__()
        self.fail_writes: dict[str, int] = {}
        self.fail_syncs: dict[str, int] = {}

    def write(self, fd: int, buffers: Any, offset: int) -> None:
        self._maybe_fail(fd, self.fail_writes)
        super().write(fd, buffers, offset)

    def sync(self, fd: int) -> None:
        self._maybe_fail(fd, self.fail_syncs)
        super().sync(fd)

    @staticmethod
    def _maybe_fail(fd: int, failing: dict[str, int]) -> None:
        path = str(Path(f"/proc/self/fd/{fd}").resolve())
        for part, error in failing.items():
            if part in path:
                raise OSError(error, "as the test says")


@pytest.mark.parametrize("step", ["fail_writes", "fail_syncs"])
async def test_a_disk_that_fails_while_it_is_written_costs_no_put(make_store: MakeStore, step: str) -> None:
    files = FailingFiles()
    store = await make_store(6, files=files)
    objects = store.objects
    await objects.create_bucket("box")
    getattr(files, step)["disk4"] = 5  # EIO
    bodies = {"small": b"s", "large": random.Random(2).randbytes(4 * STRIPE_BYTES)}
    for key, body in bodies.items():
        await objects.put("box", key, body)
    await assert_intact(objects, bodies)
    getattr(files, step).clear()
    await objects.upkeep.heal()
    assert await whole(objects)


async def test_a_failing_only_disk_refuses_the_put_and_keeps_what_was_there(make_store: MakeStore) -> None:
    files = FailingFiles()
    store = await make_store(1, files=files)
    objects = store.objects
    bodies = await fill(objects)
    files.fail_syncs["disk0"] = 5
    for body in (b"small", bytes(STRIPE_BYTES)):
        with pytest.raises((ServiceUnavailable, StorageFull)):
            await objects.put("box", "new", body)
    files.fail_syncs.clear()
    await assert_intact(await store.again(), bodies)


async def test_a_full_disk_refuses_writes_and_goes_on_reading(make_store: MakeStore) -> None:
    files = FailingFiles()
    store = await make_store(2, files=files, free_bytes_enough=1 << 30)
    objects = store.objects
    bodies = await fill(objects)
    objects.engine.store.placing.forget_space()
    files.free_bytes = 1 << 20
    for body in (b"small", bytes(STRIPE_BYTES)):
        with pytest.raises(StorageFull) as refused:
            await objects.put("box", "new", body)
        assert refused.value.status == 507
    await assert_intact(objects, bodies)
    await objects.delete("box", "k00")
    del bodies["k00"]
    files.free_bytes = 1 << 40
    objects.engine.store.placing.forget_space()
    files.fail_writes["disk"] = 28  # ENOSPC, in spite of what was said
    with pytest.raises(StorageFull):
        await objects.put("box", "new", bytes(SMALL_BYTES + 1))
    files.fail_writes.clear()
    objects.engine.store.placing.forget_space()
    await objects.put("box", "new", b"fits")
    await assert_intact(objects, {**bodies, "new": b"fits"})


async def test_no_zone_holds_more_than_the_parity_can_replace(make_store: MakeStore) -> None:
    store: Store = await make_store(6, zones=["a", "a", "b", "b", "c", "c"])
    bodies = await fill(store.objects)
    for stripe in await all_stripes(store.objects):
        zones = [store.objects.engine.store.disks[place.disk].zone for place in stripe.places if place is not None]
        assert sorted(zones) == ["a", "a", "b", "b", "c", "c"]
    for number in (2, 3):  # all of zone b
        shutil.rmtree(store.directories[number])
    objects = await store.again()
    bodies["without b"] = bytes(2 * STRIPE_BYTES)
    await objects.put("box", "without b", bodies["without b"])
    await assert_intact(objects, bodies)
    await objects.upkeep.heal()
    assert await whole(objects)


async def test_disks_that_come_back_give_what_was_written_without_them_their_parity(make_store: MakeStore) -> None:
    store: Store = await make_store(4, adopt_lost=False)
    objects = store.objects
    bodies = await fill(objects)
    for number in (0, 1):
        shutil.rmtree(store.directories[number])
    await objects.upkeep.look()
    for key in ("small", "large"):
        bodies[key] = random.Random(key).randbytes(10 if key == "small" else 2 * STRIPE_BYTES)
        await objects.put("box", key, bodies[key])
        assert {str(stripe.profile) for stripe in await stripes_of(objects, key)} == {"1+1"}
    store.settings.adopt_lost = True
    objects = await store.again()
    await objects.upkeep.look()  # the first time it looks through all
    await objects.upkeep.healing.heal_all()
    assert {str(stripe.profile) for stripe in await all_stripes(objects)} == {"2+2"} and await whole(objects)
    for number in (2, 3):
        shutil.rmtree(store.directories[number])
    await assert_intact(objects, bodies)


async def test_a_thin_profile_that_somebody_chose_is_left_alone(make_store: MakeStore) -> None:
    objects = (await make_store(4)).objects
    bodies = await fill(objects)
    await objects.set_profile("box", "2+1")
    assert await objects.upkeep.convert("box")
    await objects.upkeep.heal()
    assert {str(stripe.profile) for stripe in await all_stripes(objects)} == {"2+1"}
    await assert_intact(objects, bodies)


async def test_the_profile_of_a_bucket_changes_while_it_is_used(make_store: MakeStore) -> None:
    store = await make_store(6)
    objects = store.objects
    bodies = await fill(objects)
    await objects.set_profile("box", "3+3")
    bodies["new"] = bytes(STRIPE_BYTES)
    await objects.put("box", "new", bodies["new"])
    assert await objects.upkeep.convert("box")
    for key, body in bodies.items():  # small ones leave their shared pages
        assert {str(stripe.profile) for stripe in await stripes_of(objects, key)} == ({"3+3"} if body else set())
    await assert_intact(objects, bodies)
    assert not await objects.upkeep.convert("box")
    await assert_consistent(objects)


async def test_a_proof_is_signed_and_shows_what_is_wrong(make_store: MakeStore) -> None:
    store = await make_store(3)
    objects = store.objects
    await fill(objects)
    report = await proof.prove(objects, "box")
    assert proof.is_genuine(report) and report.proven == 12 and report.redundancy_min == 1
    again = await proof.prove(objects, "box")
    assert again.digest == report.digest and again.key == report.key
    report.proven += 1
    assert not proof.is_genuine(report)
    shutil.rmtree(store.directories[0])
    objects = await store.again()
    weaker = await proof.prove(objects, "box")
    assert weaker.redundancy_min == 0 and weaker.bad_shards and weaker.failed == 0


@pytest.mark.postgres
async def test_a_node_without_a_disk_of_the_store_does_not_take_the_others_for_lost(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    async with postgres_database(postgres_server) as database:
        await database.prepare("objects", tables, MIGRATIONS)
        one = Store(database, tmp_path / "one", 2, SystemClock(), RoomyFiles(), small_settings())
        await (await one.open()).create_bucket("kept")
        await one.objects.put("kept", "key", b"bytes")
        other = Store(database, tmp_path / "two", 2, SystemClock(), RoomyFiles(), small_settings())
        with pytest.raises(ElsewhereError):
            await other.open()
        await other.objects.stop()
        assert {state for *_, state in await one.objects.engine.known_disks()} == {"live"}
        assert await bytes_of(await one.again(), "key", "kept") == b"bytes"
        await one.objects.stop()
