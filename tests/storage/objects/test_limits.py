"""Every queue and cache of the store has its limit, and holds it while more comes than it can take."""

import asyncio
import shutil
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select

from mainspring.core.clock import VirtualClock
from mainspring.core.ports import Connection
from mainspring.storage.objects import Objects, healing, numbering, pages, stripes, volumes
from mainspring.storage.objects.errors import SlowDown
from mainspring.storage.objects.references import Stripe
from mainspring.storage.objects.tables import version
from tests.storage.objects.conftest import STRIPE_BYTES, MakeStore, bytes_of, keys_of

PATIENCE_S = 60


async def box(make_store: MakeStore, directories: int = 1, **settings: object) -> Objects:
    objects: Objects = (await make_store(directories, **settings)).objects
    await objects.create_bucket("box")
    return objects


async def test_small_puts_beyond_the_queue_are_told_to_slow_down_and_the_others_are_stored(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "WAITING_MAX", 50)
    objects = await box(make_store)
    puts = (objects.put("box", f"{number:03}", b"small") for number in range(300))
    answers = await asyncio.gather(*puts, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert refused and all(isinstance(one, SlowDown) for one in refused)
    stored = [f"{number:03}" for number, answer in enumerate(answers) if not isinstance(answer, BaseException)]
    assert stored == await keys_of(objects)
    await objects.put("box", "after", b"the storm")


async def test_large_bodies_take_turns_and_hold_no_more_memory_than_their_turns(make_store: MakeStore) -> None:
    objects = await box(make_store, streams_max=2)
    sending = most = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sending, most
        yield bytes(STRIPE_BYTES)  # with this a body asks for its turn
        sending += 1
        most = max(most, sending)
        for _ in range(4):
            await asyncio.sleep(0)
            yield bytes(STRIPE_BYTES)
        sending -= 1

    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(objects.put("box", str(number), body()) for number in range(12)))
    assert most == 2 and len(await keys_of(objects)) == 12


async def test_a_large_body_that_waits_too_long_for_its_turn_is_told_to_slow_down(make_store: MakeStore) -> None:
    objects = await box(make_store, streams_max=1, stream_wait_s=0.05)
    go_on, began = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield bytes(STRIPE_BYTES)
        began.set()
        await go_on.wait()
        yield b"end"

    first = asyncio.create_task(objects.put("box", "first", slow()))
    async with asyncio.timeout(PATIENCE_S):
        await began.wait()
        with pytest.raises(SlowDown):
            await objects.put("box", "second", bytes(STRIPE_BYTES))
        await objects.put("box", "small", b"needs no turn")
        go_on.set()
        await first
    assert await keys_of(objects) == ["first", "small"]


async def test_the_queue_of_healing_is_bounded_and_what_did_not_fit_is_found_again(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(healing, "QUEUE_MAX", 3)
    store = await make_store(3)
    objects: Objects = store.objects
    await objects.upkeep.stop()
    await objects.create_bucket("box")
    for number in range(8):
        await objects.put("box", str(number), bytes([number]) * STRIPE_BYTES)
    shutil.rmtree(store.directories[0])
    await objects.engine.look_after_disks()
    assert await objects.upkeep.healing.scan() == 8 and objects.upkeep.healing.waiting == 3
    assert await objects.upkeep.heal() == 8
    for number in range(8):
        assert await bytes_of(objects, str(number)) == bytes([number]) * STRIPE_BYTES


async def test_a_storm_of_bad_reads_queues_each_stripe_once(make_store: MakeStore) -> None:
    objects = await box(make_store, 3)
    await objects.upkeep.stop()
    stripe = Stripe(1, 2, 1, 10, (None, None, None))
    for _ in range(10_000):
        objects.upkeep.bad_stripe(stripe)
    assert objects.upkeep.healing.waiting == 1


async def test_places_of_stripes_and_open_files_are_remembered_up_to_a_limit(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stripes, "KNOWN_MAX", 4)
    monkeypatch.setattr(volumes, "OPEN_FILES_MAX", 3)
    objects = await box(make_store, segment_bytes=STRIPE_BYTES)
    bodies = {f"{number:02}": bytes([number]) * STRIPE_BYTES for number in range(12)}
    for key, body in bodies.items():
        await objects.put("box", key, body)
    for _ in range(2):
        for key, body in bodies.items():
            assert await bytes_of(objects, key) == body
    (disk,) = objects.engine.store.disks.values()
    assert len(disk.segments) >= 12
    assert sum(segment.fd >= 0 for segment in disk.segments.values()) <= 3 + 1  # and the one that is written
    assert len(objects.engine.store._known) <= 4


async def test_listings_in_pages_keep_one_row_for_each_key_and_moment_and_for_their_time_only(
    make_store: MakeStore,
) -> None:
    clock = VirtualClock()
    objects = await box(make_store, clock=clock)
    for key in ("a", "b"):
        await objects.put("box", key, b"0")
    for moment in range(1, 11):
        assert (await objects.list("box", count=1)).token is not None
        for change in range(5):
            for key in ("a", "b"):
                await objects.put("box", key, b"%d" % change)
        assert await objects.database.read(count_rows) == 2 + 2 * moment
    await clock.advance(901)
    await objects.sweep()
    assert await objects.database.read(count_rows) == 2 and await keys_of(objects) == ["a", "b"]


def count_rows(connection: Connection) -> int:
    count: int = connection.execute(select(func.count()).select_from(version)).scalar()
    return count


def test_noted_buckets_are_forgotten_past_a_limit() -> None:
    numbers = numbering.Numbers(VirtualClock(), 900)
    for bucket in range(numbering.BUCKETS_NOTED + 10):
        numbers.note_change(bucket)
    assert len(numbers._changed) <= numbering.BUCKETS_NOTED
