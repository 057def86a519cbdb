"""Disks that are slow, or do not answer at all, in virtual time: parity answers instead, and nobody waits for ever."""

import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from mainspring.core.simulator.database import SimulatedDatabase, Stored
from mainspring.core.simulator.loop import SimulatedClock, SimulatedLoop
from mainspring.storage.objects import Objects
from mainspring.storage.objects.model import unpack_pieces
from mainspring.storage.objects.references import Stripe
from mainspring.storage.objects.simulated_files import Shelf, SimulatedFiles
from mainspring.storage.objects.tables import tables
from mainspring.storage.objects.volumes import STALLED_S, Latencies
from tests.storage.objects.conftest import MIGRATIONS, STRIPE_BYTES, bytes_of, small_settings

USUAL_S = 0.2
"""How long each read takes: one call of a thread, of which half passes before it and half after."""

BODY = Random(3).randbytes(STRIPE_BYTES)
Use = Callable[[Objects, dict[int, float]], Awaitable[None]]


@pytest.fixture
def run() -> Iterator[Callable[[Use], float]]:
    """Runs a test on a store of six disks that holds `BODY` as `k`, of which each disk takes as long as a dictionary says,
    by its number; gives how many virtual seconds passed."""
    stored = Stored()
    stored.prepare("objects", tables, MIGRATIONS)

    def run(use: Use) -> float:
        slow: dict[int, float] = {}

        def took_s(executor: object) -> float:
            for disk in objects.engine.store.disks.values():
                if executor is disk._threads:
                    return slow.get(disk.id, USUAL_S) / 2
            return 0.0

        async def begin() -> float:
            nonlocal objects
            clock = SimulatedClock(loop)
            database = SimulatedDatabase(stored, clock, Random(1))
            directories = [Path(f"/disk{number}") for number in range(6)]
            files = UncachedFiles(Shelf(Random(2)))
            objects = Objects(database, clock, small_settings(), directories=directories, files=files)
            await objects.start()
            await objects.create_bucket("box")
            await objects.put("box", "k", BODY)
            for _ in range(40):
                assert await bytes_of(objects, "k") == BODY
            begun_s = loop.now_s
            await use(objects, slow)
            took = loop.now_s - begun_s
            await objects.upkeep.stop()
            return took

        objects: Objects
        loop = SimulatedLoop(Random(1), took_s=took_s)
        try:
            return loop.run_until_complete(begin())
        finally:
            loop.close()

    yield run
    stored.close()


class UncachedFiles(SimulatedFiles):
    """Nothing is in memory, so that every read asks the disk."""

    def read_cached(self, fd: int, length: int, offset: int) -> bytes | None:
        return None


async def stripe_of(objects: Objects) -> Stripe:
    return await objects.engine.store.find(unpack_pieces(await objects.pieces("box", "k", "null"))[0].stripe)


def disk_of(stripe: Stripe, shard: int = 0) -> int:
    place = stripe.places[shard]
    assert place is not None
    return place.disk


def test_a_shard_is_waited_for_up_to_three_times_the_99th_percentile_of_its_disk(
    run: Callable[[Use], float],
) -> None:
    async def use(objects: Objects, slow: dict[int, float]) -> None:
        disk = disk_of(await stripe_of(objects))
        assert objects.engine.store.disks[disk].latencies.late_s == pytest.approx(3 * USUAL_S)
        slow[disk] = 2.9 * USUAL_S
        assert await bytes_of(objects, "k") == BODY
        assert not objects.engine.store.degraded_reads

    assert run(use) == pytest.approx(2.9 * USUAL_S, abs=0.1)


def test_a_later_shard_is_replaced_by_parity_and_its_stripe_queued(run: Callable[[Use], float]) -> None:
    async def use(objects: Objects, slow: dict[int, float]) -> None:
        await objects.upkeep.stop()
        slow[disk_of(await stripe_of(objects))] = 4 * USUAL_S
        assert await bytes_of(objects, "k") == BODY
        assert objects.engine.store.degraded_reads == 1 and objects.upkeep.healing.waiting == 1

    # Late after three times what is usual; then the other shards, all at once.
    assert run(use) == pytest.approx(4 * USUAL_S, abs=0.1)


def test_two_disks_that_never_answer_cost_no_read_more_than_its_patience(run: Callable[[Use], float]) -> None:
    async def use(objects: Objects, slow: dict[int, float]) -> None:
        await objects.upkeep.stop()
        stripe = await stripe_of(objects)
        for shard in (0, 4):  # a data shard, and the parity that is asked first
            slow[disk_of(stripe, shard)] = 1e6
        assert await bytes_of(objects, "k") == BODY

    # Three times what is usual; the others, and a second more, which a disk has that was never measured; the last shard.
    assert run(use) == pytest.approx(3 * USUAL_S + USUAL_S + 1.0 + USUAL_S, abs=0.1)


def test_healing_does_not_wait_for_ever_for_a_disk_that_does_not_answer(
    run: Callable[[Use], float], caplog: pytest.LogCaptureFixture
) -> None:
    async def use(objects: Objects, slow: dict[int, float]) -> None:
        await objects.upkeep.stop()
        stripe = await stripe_of(objects)
        slow[disk_of(await stripe_of(objects))] = 1e6
        good, bad = await objects.engine.store.shards.fragments(stripe, len(stripe.places))
        assert len(good) == 5 and bad == {0: "it does not answer"}

    with caplog.at_level(logging.CRITICAL):
        assert run(use) == pytest.approx(STALLED_S, abs=1)


def test_a_write_goes_on_without_a_disk_that_does_not_answer_within_a_minute(run: Callable[[Use], float]) -> None:
    async def use(objects: Objects, slow: dict[int, float]) -> None:
        disk = disk_of(await stripe_of(objects))
        slow[disk] = 1e6
        body = BODY[::-1]
        await objects.put("box", "new", body)
        assert await bytes_of(objects, "new") == body
        assert objects.engine.store.disks[disk].lost is not None
        slow.clear()
        await objects.upkeep.heal()
        assert await bytes_of(objects, "new") == body

    assert run(use) < 3 * STALLED_S


def test_a_disk_is_late_by_what_it_did_of_late_and_never_by_a_moment() -> None:
    latencies = Latencies()
    assert latencies.late_s == 1.0
    for _ in range(Latencies.KEPT):
        latencies.note(0.001)
    assert latencies.late_s == Latencies.LEAST_S
    for _ in range(4 * Latencies.KEPT):
        latencies.note(2.0)
    assert latencies.late_s == pytest.approx(6.0)
