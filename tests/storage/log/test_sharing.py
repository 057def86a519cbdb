"""A share group in process: records one by one, each until somebody has said what became of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from mainspring.core.clock import SystemClock
from mainspring.storage.log.errors import LogError
from mainspring.storage.log.service import Log
from mainspring.storage.log.sharing import ShareConsumer, Shared

PATIENCE_S = 60.0


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[Log]:
    made = Log(tmp_path / "log", SystemClock(), random=Random(1))
    await made.start()
    yield made
    await made.stop()


async def take(consumer: ShareConsumer) -> list[Shared]:
    async with asyncio.timeout(PATIENCE_S):
        return await anext(consumer)


def values(batch: list[Shared]) -> list[bytes]:
    return [one.record.value for one in batch]


async def test_what_is_accepted_is_done_with_and_what_is_released_comes_again(log: Log) -> None:
    await log.append_many("jobs", [(None, b"%d" % n) for n in range(4)])
    consumer = log.share("workers", ["jobs"], batch_records_max=4)
    first = await take(consumer)
    assert values(first) == [b"0", b"1", b"2", b"3"] and {one.deliveries for one in first} == {1}
    await consumer.accept(first[0], first[2])
    await consumer.reject(first[3])
    again = await take(consumer)
    assert values(again) == [b"1"] and again[0].deliveries == 2
    await consumer.accept(*again)
    with pytest.raises(KeyError):
        await consumer.accept(first[0])
    await consumer.close()
    await log.append("jobs", b"4")
    other = log.share("workers", ["jobs"])
    assert values(await take(other)) == [b"4"]


async def test_many_members_share_one_partition_and_each_record_is_done_once(log: Log) -> None:
    await log.append_many("jobs", [(None, b"%d" % n) for n in range(60)])
    done: Counter[bytes] = Counter()
    finished = asyncio.Event()

    async def work(member: ShareConsumer) -> None:
        async for batch in member:
            for one in batch:
                await member.accept(one)
                done[one.record.value] += 1
            if len(done) == 60:
                finished.set()

    members = [log.share("workers", ["jobs"], batch_records_max=5) for _ in range(3)]
    tasks = [asyncio.ensure_future(work(member)) for member in members]
    async with asyncio.timeout(PATIENCE_S):
        await finished.wait()
        for member in members:
            await member.close()
        await asyncio.gather(*tasks)
    assert done == Counter(b"%d" % n for n in range(60))


async def test_a_record_of_another_member_cannot_be_accepted(log: Log) -> None:
    await log.append("jobs", b"1")
    one = log.share("workers", ["jobs"])
    [held] = await take(one)
    await log.groups.shares.leave("workers", one._member)
    with pytest.raises(LogError):
        await one.accept(held)
