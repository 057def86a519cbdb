"""What a share group gives out: nothing before its time, and of transactions what its isolation level allows."""

from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from mainspring.core.clock import VirtualClock
from mainspring.storage.log.codecs import Codec
from mainspring.storage.log.groups.configs import duration_ms
from mainspring.storage.log.groups.messages import ShareHeartbeat
from mainspring.storage.log.groups.settings import GroupSettings
from mainspring.storage.log.groups.share_partition import Acknowledge
from mainspring.storage.log.records import build, records_in
from mainspring.storage.log.service import Log

DAY_MS = 86_400_000


class Sharing:
    """One member of the group `s` of the topic `t`, on a clock of its own."""

    def __init__(self, log: Log, clock: VirtualClock) -> None:
        self.log, self.clock = log, clock

    @property
    def now_ms(self) -> int:
        return self.clock.wall_ns() // 1_000_000

    @property
    def slot(self) -> tuple[UUID, int]:
        return self.log.engine.topics["t"].id, 0

    async def append(self, *values: bytes, at: bytes | None = None, codec: Codec = Codec.NONE) -> None:
        headers = () if at is None else (("mainspring-deliver-at", at),)
        batch = build([(self.now_ms, None, value, headers) for value in values], codec=codec)
        await self.log.engine.partition("t", 0).append(batch).durable()

    async def take(self, records_max: int = 100, bytes_max: int = 1 << 20, member: str = "a") -> list[int]:
        """Which records it gets, without waiting."""
        given = await self.log.groups.shares.fetch(
            "s", member, [self.slot], records_max=records_max, bytes_max=bytes_max, wait_ms=0, strictly=True
        )
        return [offset for one in given for run in one.acquired for offset in range(run.first, run.last + 1)]

    async def accept(self, *offsets: int) -> None:
        said = [(offset, offset, [int(Acknowledge.ACCEPT)]) for offset in offsets]
        await self.log.groups.shares.acknowledge("s", "a", self.slot, said)

    async def start(self) -> int:
        return (await self.log.groups.shares.offsets("s"))[self.slot].start


@pytest.fixture
async def sharing(tmp_path: Path) -> AsyncIterator[Sharing]:
    clock = VirtualClock()
    settings = GroupSettings(share_auto_offset_reset="earliest", internal_partitions=2, share_in_flight_max=10)
    log = Log(tmp_path, clock, groups=settings, random=Random(1))
    await log.start()
    await log.create_topic("t")
    yield Sharing(log, clock)
    await log.stop()


@pytest.mark.parametrize("codec", [Codec.NONE, Codec.ZSTD])
async def test_a_record_is_given_out_at_its_time_and_those_behind_it_at_once(sharing: Sharing, codec: Codec) -> None:
    await sharing.append(b"later", at=b"%d" % (sharing.now_ms + 60_000), codec=codec)
    await sharing.append(b"now", at=b"%d" % (sharing.now_ms - 1), codec=codec)
    await sharing.append(b"never mind", at=b"tomorrow", codec=codec)
    assert await sharing.take() == [1, 2]
    await sharing.accept(1, 2)
    await sharing.clock.advance(59.9)
    assert await sharing.take() == []
    await sharing.clock.advance(0.2)
    assert await sharing.take() == [0]
    await sharing.accept(0)
    assert await sharing.start() == 3


async def test_a_delay_outlives_a_restart_and_ends_at_the_longest_that_is_allowed(tmp_path: Path) -> None:
    clock = VirtualClock()
    settings = GroupSettings(share_auto_offset_reset="earliest", internal_partitions=2)
    for step, expected in ((0, []), (6 * DAY_MS, []), (DAY_MS, [0])):
        log = Log(tmp_path, clock, groups=settings, random=Random(1))
        await log.start()
        sharing = Sharing(log, clock)
        if not step:
            await log.create_topic("t")
            await sharing.append(b"in a hundred years", at=b"%d" % (sharing.now_ms + 36_500 * DAY_MS))
        await clock.advance(step / 1_000)
        assert await sharing.take() == expected
        await log.stop()


async def test_records_that_wait_fill_the_window_and_no_more(sharing: Sharing) -> None:
    for _ in range(12):
        await sharing.append(b"later", at=b"%d" % (sharing.now_ms + 60_000))
    await sharing.append(b"now")
    assert await sharing.take(bytes_max=1) == []
    assert sharing.log.groups.shares.in_flight() == 10
    await sharing.clock.advance(61)
    assert await sharing.take() == list(range(10))
    await sharing.accept(*range(10))
    assert await sharing.take() == [10, 11, 12]


async def test_of_transactions_a_group_gets_what_its_isolation_level_allows(sharing: Sharing) -> None:
    log = sharing.log
    log.groups.configure({"s": {"share.isolation.level": "read_committed"}})
    await sharing.append(b"plain")
    async with log.transaction("aborted") as transaction:
        for n in range(30):
            await transaction.append("t", b"%d" % n)
        await transaction.abort()
    async with log.transaction("committed") as transaction:
        await transaction.append("t", b"good")
        await transaction.append("t", b"better")
        await sharing.append(b"beside")
        assert await sharing.take(bytes_max=1) == [0], "what follows an open transaction is not stable yet"
        await sharing.accept(0)
        assert await sharing.take() == [31], "the marker, a gap as its reader will say"
        assert await sharing.take() == []
    seen = await sharing.take()
    while more := await sharing.take():
        seen += more
    partition = log.engine.partition("t", 0)
    values = {
        one.offset: one.value
        for buffer in partition.read(32, 1 << 20).buffers
        for one in records_in(buffer)
        if one.key is None
    }
    assert [values[offset] for offset in seen if offset in values] == [b"good", b"better", b"beside"]
    log.groups.configure({})
    async with log.transaction("aborted") as transaction:
        await transaction.append("t", b"unheard")
        await transaction.abort()
    at = partition.end - 2
    assert at in await sharing.take(), "without the setting all that is written is given out, as in Kafka"


async def test_a_member_that_was_silent_too_long_gives_back_what_it_held(sharing: Sharing) -> None:
    await sharing.append(b"1", b"2")
    for member in "ab":
        await sharing.log.groups.ask(ShareHeartbeat(group="s", member_id=member, member_epoch=0, topics=("t",)))
    sharing.log.groups.configure({"s": {"share.record.lock.duration.ms": "60000"}})
    assert await sharing.take() == [0, 1]
    await sharing.clock.advance(46)
    while "a" in sharing.log.groups.find("s").members or not (again := await sharing.take(member="b")):
        await sharing.clock.advance(0.02)
        assert sharing.now_ms < 10**18
    assert again == [0, 1]


async def test_a_group_may_begin_so_long_ago(sharing: Sharing) -> None:
    sharing.log.groups.configure({"s": {"share.auto.offset.reset": "by_duration:PT1M"}})
    await sharing.append(b"old")
    await sharing.clock.advance(120)
    await sharing.append(b"young")
    await sharing.clock.advance(30)
    assert await sharing.take() == [1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("PT1H", 3_600_000), ("P1DT2H3M4.5S", 93_784_500), ("PT0.001S", 1), ("p1d", DAY_MS)],
)
def test_durations_are_those_of_iso_8601(text: str, expected: int) -> None:
    assert duration_ms(f"by_duration:{text}") == expected


@pytest.mark.parametrize("text", ["", "P", "PT", "1H", "P1Y", "-PT1H", "PT-1H", "PT1H ", "P1H"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        duration_ms(f"by_duration:{text}")
