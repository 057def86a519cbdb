"""Share groups over the bare protocol: given out, acknowledged, given back, and remembered over a restart."""

import asyncio
from uuid import UUID

import msgspec
from kio.schema.errors import ErrorCode

from mainspring.storage.log.groups.settings import GroupSettings
from mainspring.storage.log.kafka.registry import ApiKey
from mainspring.storage.log.records import build, records_in
from tests.storage.log.kafka.wire import Wire

from .door import WAIT_S, open_door

EARLIEST = GroupSettings(share_auto_offset_reset="earliest", internal_partitions=4, share_record_lock_ms=20_000)
ACCEPT, RELEASE, REJECT, RENEW = 1, 2, 3, 4


class Sharer:
    """A member of a share group as a client would be one."""

    def __init__(self, wire: Wire, topic: UUID, member: str = "a", group: str = "s") -> None:
        self.wire, self.topic, self.member, self.group = wire, topic, member, group
        self.epoch = 0

    def beat(self, epoch: int = 0, **fields):
        return self.wire.call(
            ApiKey.SHARE_GROUP_HEARTBEAT,
            1,
            group_id=self.group,
            member_id=self.member,
            member_epoch=epoch,
            subscribed_topic_names=("jobs",) if epoch == 0 else None,
            **fields,
        )

    def fetch(self, *acknowledged, epoch: int | None = None, wait_ms: int = 0, records_max: int = 100, **fields):
        """`acknowledged`: (first, last, kinds)."""
        epoch = self.epoch if epoch is None else epoch
        answer = self.wire.call(
            ApiKey.SHARE_FETCH,
            2,
            group_id=self.group,
            member_id=self.member,
            share_session_epoch=epoch,
            max_wait_ms=wait_ms,
            min_bytes=1,
            max_bytes=1 << 20,
            max_records=records_max,
            batch_size=records_max,
            topics=[{"topic_id": self.topic, "partitions": [self.part(*acknowledged)]}],
            **fields,
        )
        if not answer.error_code:
            self.epoch = epoch + 1
        return answer

    def acknowledge(self, *acknowledged, **fields):
        answer = self.wire.call(
            ApiKey.SHARE_ACKNOWLEDGE,
            2,
            group_id=self.group,
            member_id=self.member,
            share_session_epoch=self.epoch,
            topics=[{"topic_id": self.topic, "partitions": [self.part(*acknowledged)]}],
            **fields,
        )
        self.epoch += 1
        return answer

    @staticmethod
    def part(*acknowledged):
        batches = [
            {"first_offset": first, "last_offset": last, "acknowledge_types": kinds}
            for first, last, kinds in acknowledged
        ]
        return {"partition_index": 0, "acknowledgement_batches": batches}


def got(answer) -> list[tuple[int, int, int]]:
    """(first, last, delivery) of what was acquired."""
    return [
        (run.first_offset, run.last_offset, run.delivery_count)
        for topic in answer.responses
        for part in topic.partitions
        for run in part.acquired_records
    ]


def part_of(answer):
    return answer.responses[0].partitions[0]


async def fill(door, count: int) -> UUID:
    if "jobs" not in door.engine.topics:
        await door.engine.create_topic("jobs")
    partition = door.engine.partition("jobs", 0)
    for value in range(count):
        await partition.append(build([(0, None, b"%d" % value, ())])).durable()
    return door.engine.topics["jobs"].id


async def with_wire(door, function, *args):
    def run():
        with Wire(door.port) as wire:
            return function(wire, *args)

    async with asyncio.timeout(2 * WAIT_S):
        return await asyncio.to_thread(run)


async def test_records_are_accepted_released_and_rejected(tmp_path):
    def script(wire: Wire, topic: UUID) -> None:
        sharer = Sharer(wire, topic)
        beat = sharer.beat()
        assert (beat.error_code, beat.member_epoch) == (0, 1)
        assert beat.assignment.topic_partitions[0].partitions == (0,)
        first = sharer.fetch()
        assert got(first) == [(0, 4, 1)]
        assert [one.value for one in records_in(part_of(first).records)] == [b"0"]
        assert first.responses[0].partitions[0].error_code == 0
        second = sharer.fetch((0, 1, [ACCEPT]), (2, 3, [RELEASE, REJECT]))
        assert part_of(second).acknowledge_error_code == 0
        third = sharer.fetch()
        assert got(second) + got(third) == [(2, 2, 2)]
        assert part_of(sharer.acknowledge((2, 2, [ACCEPT]), (4, 4, [ACCEPT]))).error_code == 0
        assert got(sharer.fetch()) == []

    async with open_door(tmp_path, EARLIEST) as door:
        topic = await fill(door, 5)
        await with_wire(door, script, topic)
        (share,) = (await door.groups.shares.offsets("s")).values()
        assert (share.start, share.records) == (5, {})


async def test_two_members_never_hold_the_same_record_and_one_that_leaves_gives_back(tmp_path):
    def script(wire: Wire, topic: UUID) -> None:
        one, other = Sharer(wire, topic, "a"), Sharer(wire, topic, "b")
        one.beat(), other.beat()
        assert got(one.fetch(records_max=3, share_acquire_mode=1)) == [(0, 2, 1)]
        assert got(other.fetch()) == [(3, 4, 1)]
        assert part_of(other.fetch((0, 0, [ACCEPT]))).acknowledge_error_code == ErrorCode.invalid_record_state
        assert one.beat(-1).member_epoch == -1
        assert got(other.fetch()) == [(0, 2, 2)]

    async with open_door(tmp_path, EARLIEST) as door:
        await with_wire(door, script, await fill(door, 5))


async def test_what_was_accepted_stays_so_over_a_restart_and_what_was_held_comes_again(tmp_path):
    def before(_: Wire, topic: UUID) -> None:
        sharer = Sharer(held, topic)
        sharer.beat()
        sharer.fetch()
        sharer.fetch((0, 0, [ACCEPT]), (2, 2, [ACCEPT]), (3, 3, [RELEASE]), epoch=1)

    def after(wire: Wire, topic: UUID) -> None:
        sharer = Sharer(wire, topic)
        assert got(sharer.fetch()) == [(1, 1, 1), (3, 3, 2), (4, 4, 1)]

    async with open_door(tmp_path, EARLIEST) as door:
        topic = await fill(door, 5)
        held = Wire(door.port)  # ends after the node has: else what it holds would be given back
        await with_wire(door, before, topic)
        assert "a" in door.groups.find("s").members
    held.socket.close()
    async with open_door(tmp_path, EARLIEST) as door:
        await door.groups.opened()
        assert "a" in door.groups.find("s").members
        await with_wire(door, after, topic)


async def test_a_session_has_its_epochs(tmp_path):
    def script(wire: Wire, topic: UUID) -> None:
        sharer = Sharer(wire, topic)
        sharer.beat()
        assert sharer.fetch(epoch=1).error_code == ErrorCode.share_session_not_found
        sharer.fetch(epoch=0)
        assert sharer.fetch(epoch=5).error_code == ErrorCode.invalid_share_session_epoch
        assert sharer.fetch((0, 0, [ACCEPT]), epoch=0).error_code == ErrorCode.invalid_request
        assert sharer.fetch((0, 0, [RENEW]), epoch=1).error_code == ErrorCode.invalid_request
        assert sharer.fetch((0, 0, [RENEW]), epoch=1, is_renew_ack=True).error_code == 0
        assert sharer.fetch(epoch=-1).error_code == 0
        assert sharer.fetch(epoch=2).error_code == ErrorCode.share_session_not_found
        sharer.epoch = 0
        assert sharer.acknowledge((0, 0, [ACCEPT])).error_code == ErrorCode.invalid_share_session_epoch
        limited = Sharer(wire, topic, "b")
        assert limited.fetch().error_code == 0

    async with open_door(tmp_path, EARLIEST) as door:
        await with_wire(door, script, await fill(door, 1))


async def test_a_fetch_waits_for_the_first_record(tmp_path):
    def script(wire: Wire, topic: UUID):
        sharer = Sharer(wire, topic)
        sharer.beat()
        return got(sharer.fetch(wait_ms=int(WAIT_S * 1000)))

    async with open_door(tmp_path, EARLIEST) as door:
        topic = await fill(door, 0)
        waiting = asyncio.ensure_future(with_wire(door, script, topic))
        await fill(door, 1)
        assert await waiting == [(0, 0, 1)]


async def test_administrators_see_move_and_delete_where_a_group_begins(tmp_path):
    def script(wire: Wire, topic: UUID) -> None:
        sharer = Sharer(wire, topic)
        sharer.beat()
        sharer.fetch()
        sharer.fetch((0, 1, [ACCEPT]))
        described = wire.call(ApiKey.SHARE_GROUP_DESCRIBE, 1, group_ids=["s", "none"])
        assert [one.error_code for one in described.groups] == [0, ErrorCode.group_id_not_found]
        assert described.groups[0].members[0].subscribed_topic_names == ("jobs",)

        def offsets():
            asked = [{"group_id": "s", "topics": None}]
            answer = wire.call(ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS, 1, groups=asked)
            return [(one.start_offset, one.lag) for topic in answer.groups[0].topics for one in topic.partitions]

        def alter():
            topics = [{"topic_name": "jobs", "partitions": [{"partition_index": 0, "start_offset": 4}]}]
            answer = wire.call(ApiKey.ALTER_SHARE_GROUP_OFFSETS, 0, group_id="s", topics=topics)
            return answer.error_code or answer.responses[0].partitions[0].error_code

        assert offsets() == [(2, 3)]
        assert alter() == ErrorCode.non_empty_group
        sharer.beat(-1)
        assert alter() == 0
        assert offsets() == [(4, 1)]
        answer = wire.call(ApiKey.DELETE_SHARE_GROUP_OFFSETS, 0, group_id="s", topics=[{"topic_name": "jobs"}])
        assert answer.error_code == 0
        assert offsets() == []
        listed = wire.call(ApiKey.LIST_GROUPS, 5, types_filter=["share"])
        assert [(one.group_id, one.group_type, one.group_state) for one in listed.groups] == [("s", "share", "Empty")]

    async with open_door(tmp_path, EARLIEST) as door:
        await with_wire(door, script, await fill(door, 5))


async def test_a_heartbeat_that_is_not_the_members_is_refused(tmp_path):
    def script(wire: Wire, topic: UUID) -> None:
        sharer = Sharer(wire, topic)
        assert sharer.beat(3).error_code == ErrorCode.group_id_not_found
        assert sharer.beat(-5).error_code == ErrorCode.group_id_not_found
        sharer.beat()
        assert sharer.beat(9).error_code == ErrorCode.fenced_member_epoch
        assert sharer.beat(-5).error_code == ErrorCode.invalid_request
        assert Sharer(wire, topic, "").beat().error_code == ErrorCode.invalid_request
        assert Sharer(wire, topic, "b").beat(1).error_code == ErrorCode.unknown_member_id

    async with open_door(tmp_path, EARLIEST) as door:
        await with_wire(door, script, await fill(door, 0))


async def test_a_record_that_was_given_out_in_vain_too_often_goes_to_the_dead_letters(tmp_path):
    def script(wire: Wire, topic: UUID) -> None:
        sharer = Sharer(wire, topic)
        sharer.beat()
        assert got(sharer.fetch()) == [(0, 1, 1)]
        assert got(sharer.fetch((0, 0, [RELEASE]), (1, 1, [ACCEPT]))) == [(0, 0, 2)]
        assert part_of(sharer.acknowledge((0, 0, [RELEASE]))).error_code == 0
        assert got(sharer.fetch()) == []

    settings = msgspec.structs.replace(EARLIEST, share_deliveries_max=2)
    async with open_door(tmp_path, settings) as door:
        await with_wire(door, script, await fill(door, 2))
        (buffer,) = door.engine.partition("jobs.dead", 0).read(0, 1 << 20).buffers
        (dead,) = records_in(buffer)
        assert dead.value == b"0"
        assert ("mainspring-dead-offset", b"0") in dead.headers
        (share,) = (await door.groups.shares.offsets("s")).values()
        assert share.start == 2


async def test_what_a_connection_had_is_given_back_when_it_ends(tmp_path):
    def script(wire: Wire, topic: UUID) -> None:
        one, other = Sharer(wire, topic, "a"), Sharer(wire, topic, "b")
        with Wire(wire.socket.getpeername()[1]) as lost:
            one.wire = lost
            one.beat()
            assert got(one.fetch()) == [(0, 2, 1)]
        other.beat()
        answer = other.fetch(wait_ms=int(WAIT_S * 1000))
        assert got(answer) == [(0, 2, 2)]

    settings = msgspec.structs.replace(EARLIEST, share_record_lock_ms=600_000)
    async with open_door(tmp_path, settings) as door:
        await with_wire(door, script, await fill(door, 3))


async def test_a_session_that_was_opened_anew_on_a_later_connection_outlives_its_first(tmp_path):
    def script(wire: Wire, topic: UUID) -> None:
        sharer = Sharer(wire, topic)
        sharer.beat()
        assert got(sharer.fetch()) == [(0, 2, 1)]
        with Wire(wire.socket.getpeername()[1]) as later:
            sharer.wire = later
            sharer.fetch(epoch=0)
            assert Sharer(wire, topic).fetch(epoch=0).error_code == ErrorCode.invalid_share_session_epoch
            assert Sharer(wire, topic).fetch((0, 0, [RELEASE]), epoch=1).error_code != 0
            wire.socket.close()
            assert part_of(sharer.acknowledge((0, 2, [ACCEPT]))).error_code == 0

    async with open_door(tmp_path, EARLIEST) as door:
        await with_wire(door, script, await fill(door, 3))
