"""The coordinators say what Kafka's say: one script of requests, well-formed and not, against both."""

from typing import Any

import pytest

from mainspring.storage.log.kafka.registry import ApiKey
from tests.storage.log.kafka.wire import Wire

pytestmark = pytest.mark.peer

RANGE = [{"name": "range", "metadata": b"\0\0\0\0\0\1\0\6orders\xff\xff\xff\xff"}]
RETRIED = (14, 15, 16, 51)
"""Codes that say: not yet."""


class Script:
    """Calls a broker and writes down the codes that it answers."""

    def __init__(self, address: str, prefix: str) -> None:
        self.wire = Wire(int(address.rpartition(":")[2]))
        self.prefix = prefix
        self.said: list[tuple[str, Any]] = []

    def call(self, key: ApiKey, version: int, /, **fields: Any) -> Any:
        """The answer, once the coordinator is there and at rest."""
        for _ in range(600):
            answer = self.wire.call(key, version, **fields)
            if getattr(answer, "error_code", 0) not in RETRIED:
                return answer
            self.find(ApiKey.FIND_COORDINATOR)
        raise TimeoutError(f"{key.name} answers {answer.error_code} for ever")

    def find(self, key: ApiKey) -> None:
        for kind in (0, 1):
            self.wire.call(key, 3, key=self.prefix, key_type=kind)

    def note(self, what: str, said: Any) -> None:
        self.said.append((what, said))

    def classic(self) -> None:
        group = f"{self.prefix}-classic"

        def join(member_id: str = "", version: int = 9, **fields: Any) -> Any:
            return self.call(
                ApiKey.JOIN_GROUP,
                version,
                **{
                    "group_id": group,
                    "session_timeout_ms": 30_000,
                    "rebalance_timeout_ms": 30_000,
                    "member_id": member_id,
                    "protocol_type": "consumer",
                    "protocols": RANGE,
                }
                | fields,
            )

        def sync(member_id: str, generation: int, **fields: Any) -> Any:
            return self.call(
                ApiKey.SYNC_GROUP,
                5,
                **{
                    "group_id": group,
                    "generation_id": generation,
                    "member_id": member_id,
                    "protocol_type": "consumer",
                    "protocol_name": "range",
                    "assignments": [{"member_id": member_id, "assignment": b"all"}],
                }
                | fields,
            )

        def beat(member_id: str, generation: int, **fields: Any) -> Any:
            answer = self.call(
                ApiKey.HEARTBEAT, 4, group_id=group, generation_id=generation, member_id=member_id, **fields
            )
            return answer.error_code

        def commit(member_id: str, generation: int, version: int = 9, partition: int = 0, metadata: str = "") -> Any:
            part = {"partition_index": partition, "committed_offset": 3, "committed_metadata": metadata}
            answer = self.call(
                ApiKey.OFFSET_COMMIT,
                version,
                group_id=group,
                generation_id_or_member_epoch=generation,
                member_id=member_id,
                topics=[{"name": "orders", "partitions": [part]}],
            )
            return answer.topics[0].partitions[0].error_code

        # SyncGroup first: while its log is being read, Kafka answers a heartbeat blindly.
        self.note("sync of no group", sync("x", 1).error_code)
        self.note("beat of no group", beat("x", 1))
        self.note("commit of no group", (commit("x", 1), commit("x", 1, version=8)))
        self.note("fetch of no group", self.fetch(group))
        self.note("no name", join(group_id="").error_code)
        self.note("short session", join(session_timeout_ms=10).error_code)
        self.note("stranger joins", join("stranger").error_code)
        self.note("no protocols", join(protocols=[]).error_code)
        self.note("no protocol type", join(protocol_type="").error_code)
        required = join()
        self.note("first", (required.error_code, bool(required.member_id), required.generation_id))
        joined = join(required.member_id)
        self.note("joined", (joined.error_code, joined.generation_id, joined.protocol_name, len(joined.members)))
        me = joined.member_id
        self.note("leads", joined.leader == me)
        self.note("commit before assignment", commit(me, 1))
        self.note("sync, other protocol", sync(me, 1, protocol_name="other").error_code)
        self.note("sync, other generation", sync(me, 5).error_code)
        synced = sync(me, 1)
        self.note("synced", (synced.error_code, synced.assignment, synced.protocol_name))
        self.note("beat", (beat(me, 1), beat(me, 0), beat(me, 7), beat("x", 1), beat(me, 1, group_instance_id="i")))
        self.note("commit", (commit(me, 1), commit(me, 0), commit("x", 1), commit("", -1)))
        self.note("long metadata", commit(me, 1, metadata="x" * 5_000))
        self.note("no such partition", commit(me, 1, partition=99))
        self.note("other type", join(protocol_type="connect").error_code)
        self.note("other protocol", join(protocols=[{"name": "x", "metadata": b""}]).error_code)
        self.note("positions", self.fetch(group))
        described = self.call(ApiKey.DESCRIBE_GROUPS, 5, groups=[group, "none"]).groups
        self.note("described", [(one.error_code, one.group_state, one.protocol_data) for one in described])
        self.note("delete, with members", self.delete(group))
        parts = [{"partition_index": 0}]
        answer = self.call(ApiKey.OFFSET_DELETE, 0, group_id=group, topics=[{"name": "orders", "partitions": parts}])
        self.note("delete a position", (answer.error_code, answer.topics[0].partitions[0].error_code))
        answer = self.call(ApiKey.LEAVE_GROUP, 5, group_id=group, members=[{"member_id": me}, {"member_id": "x"}])
        self.note("leave", (answer.error_code, [one.error_code for one in answer.members]))
        self.note("beat after", beat(me, 1))
        self.note("delete", (self.delete(group), self.delete(group), self.delete("")))
        static = join(group_instance_id="i")
        self.note("static", (static.error_code, static.generation_id))
        self.note("static synced", sync(static.member_id, static.generation_id, group_instance_id="i").error_code)
        again = join(group_instance_id="i")
        self.note("static again", (again.error_code, again.generation_id - static.generation_id, again.skip_assignment))
        self.note("fenced", beat(static.member_id, static.generation_id, group_instance_id="i"))
        self.note("fenced joins", join(static.member_id, group_instance_id="i").error_code)

    def fetch(self, group: str) -> Any:
        asked = [{"group_id": group, "topics": [{"name": "orders", "partition_indexes": [0, 1]}]}]
        (found,) = self.call(ApiKey.OFFSET_FETCH, 9, groups=asked, require_stable=True).groups
        parts = [part for topic in found.topics for part in topic.partitions]
        return found.error_code, sorted((one.partition_index, one.committed_offset, one.error_code) for one in parts)

    def delete(self, group: str) -> int:
        return self.call(ApiKey.DELETE_GROUPS, 2, groups_names=[group]).results[0].error_code

    def consumer(self) -> None:
        group = f"{self.prefix}-new"

        def beat(epoch: int, member_id: str = "m", **fields: Any) -> Any:
            first = {"rebalance_timeout_ms": 30_000, "subscribed_topic_names": ["orders"], "topic_partitions": []}
            return self.call(
                ApiKey.CONSUMER_GROUP_HEARTBEAT,
                1,
                **{"group_id": group, "member_id": member_id, "member_epoch": epoch}
                | (first if epoch == 0 else {})
                | fields,
            )

        self.note("no group", beat(1).error_code)
        self.note("no group, leaves", beat(-1).error_code)
        self.note("no member id", beat(0, "").error_code)
        self.note("no timeout", beat(0, rebalance_timeout_ms=-1).error_code)
        self.note("no topics", beat(0, subscribed_topic_names=None).error_code)
        self.note("owns at first", beat(0, topic_partitions=None).error_code)
        self.note("no instance", beat(-2).error_code)
        self.note("epoch", beat(-3).error_code)
        self.note("assignor", beat(0, server_assignor="x").error_code)
        self.note("regex", beat(0, subscribed_topic_regex="(").error_code)
        first = beat(0)
        self.note("joined", (first.error_code, first.member_epoch, first.heartbeat_interval))
        self.note("assigned", [sorted(one.partitions) for one in first.assignment.topic_partitions])
        owned = [{"topic_id": one.topic_id, "partitions": one.partitions} for one in first.assignment.topic_partitions]
        self.note("beat", (beat(1).error_code, beat(1).assignment))
        self.note("stranger", beat(1, "x").error_code)
        self.note("ahead", beat(9).error_code)
        second = beat(0, "n")
        self.note("second", (second.error_code, second.member_epoch, second.assignment.topic_partitions))
        told = beat(1, topic_partitions=owned)
        kept = [one.partitions for one in told.assignment.topic_partitions]
        self.note("told", (told.error_code, told.member_epoch, [len(one) for one in kept]))
        self.note("waits", beat(2, "n", topic_partitions=[]).assignment)
        left = [{"topic_id": one["topic_id"], "partitions": part} for one, part in zip(owned, kept, strict=True)]
        gave = beat(1, topic_partitions=left)
        self.note("gave", (gave.error_code, gave.member_epoch))
        got = beat(2, "n", topic_partitions=[])
        self.note("got", (got.member_epoch, [len(one.partitions) for one in got.assignment.topic_partitions]))
        described = self.call(ApiKey.CONSUMER_GROUP_DESCRIBE, 1, group_ids=[group]).groups[0]
        self.note(
            "described",
            (described.group_state, described.group_epoch, described.assignment_epoch, described.assignor_name),
        )
        part = {"partition_index": 0, "committed_offset": 3, "committed_metadata": ""}
        for member_id, epoch in (("m", 2), ("m", 1), ("x", 2), ("", -1)):
            answer = self.call(
                ApiKey.OFFSET_COMMIT,
                9,
                group_id=group,
                generation_id_or_member_epoch=epoch,
                member_id=member_id,
                topics=[{"name": "orders", "partitions": [part]}],
            )
            self.note(f"commit {member_id} {epoch}", answer.topics[0].partitions[0].error_code)
        self.note("joins as of old", self.old_join(group))
        self.note("leaves", (beat(-1).error_code, beat(-1, "n").member_epoch, beat(2).error_code))
        static = beat(0, "s", instance_id="i")
        self.note("static", static.error_code)
        self.note("static held", beat(0, "t", instance_id="i").error_code)
        self.note("static away", beat(-2, "s", instance_id="i").member_epoch)
        back = beat(0, "t", instance_id="i")
        self.note("static back", (back.error_code, back.member_epoch == static.member_epoch))
        self.note("static fenced", beat(static.member_epoch, "s", instance_id="i").error_code)

    def old_join(self, group: str) -> int:
        return self.call(
            ApiKey.JOIN_GROUP,
            9,
            group_id=group,
            session_timeout_ms=30_000,
            rebalance_timeout_ms=30_000,
            member_id="",
            protocol_type="connect",
            protocols=RANGE,
        ).error_code

    def transactions(self) -> None:
        id = f"{self.prefix}-t"

        def init(timeout_ms: int = 60_000, version: int = 4, **fields: Any) -> Any:
            return self.call(
                ApiKey.INIT_PRODUCER_ID,
                version,
                **{"transactional_id": id, "transaction_timeout_ms": timeout_ms} | fields,
            )

        def add(producer: int, epoch: int, partition: int = 0, id: str = id) -> Any:
            answer = self.call(
                ApiKey.ADD_PARTITIONS_TO_TXN,
                3,
                v3_and_below_transactional_id=id,
                v3_and_below_producer_id=producer,
                v3_and_below_producer_epoch=epoch,
                v3_and_below_topics=[{"name": "orders", "partitions": [partition]}],
            )
            code = answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
            return add(producer, epoch, partition, id) if code in RETRIED else code

        def end(producer: int, epoch: int, commit: bool = True, version: int = 3) -> Any:
            fields = {"transactional_id": id, "producer_id": producer, "producer_epoch": epoch, "committed": commit}
            answer = self.call(ApiKey.END_TXN, version, **fields)
            return (answer.error_code, answer.producer_epoch) if version >= 5 else answer.error_code

        self.note("empty id", init(transactional_id="").error_code)
        self.note("timeouts", (init(0).error_code, init(-1).error_code, init(900_001).error_code))
        self.note("half expected", init(producer_id=5).error_code)
        self.note("idempotent", (init(transactional_id=None).error_code, init(transactional_id=None).producer_epoch))
        made = init()
        me = made.producer_id
        self.note("made", (made.error_code, made.producer_epoch))
        self.note("unknown id", add(me, 0, id="nobody"))
        self.note("strangers", (add(me + 1, 0), add(me, 7), end(me + 1, 0), end(me, 7)))
        self.note("no partition", add(me, 0, 99))
        self.note("nothing to end", (end(me, 0), end(me, 0, False)))
        self.note("add", (add(me, 0), add(me, 0)))
        self.note("commit", (end(me, 0), end(me, 0), end(me, 0, False)))
        self.note("abort", (add(me, 0), end(me, 0, False), end(me, 0, False), end(me, 0)))
        self.note("newer", (add(me, 0), end(me, 0, version=5), end(me, 0, version=5), end(me, 0, False, version=5)))
        self.note("nothing, newer", (end(me, 1, version=5), end(me, 1, False, version=5), end(me, 1, False, version=5)))
        self.note("goes on", [init(producer_id=me, producer_epoch=epoch).producer_epoch for epoch in (2, 2, 3)])
        self.note("fenced", (init(producer_id=me, producer_epoch=1).error_code, add(me, 2), end(me, 2)))
        add(me, 4)
        described = self.call(ApiKey.DESCRIBE_TRANSACTIONS, 0, transactional_ids=[id]).transaction_states
        self.note("described", [(one.error_code, one.transaction_state, one.producer_epoch) for one in described])
        listed = self.call(ApiKey.LIST_TRANSACTIONS, 1, state_filters=["Ongoing", "Odd"], producer_id_filters=[me])
        self.note("listed", (len(listed.transaction_states), listed.unknown_state_filters))
        self.note("fences what is open", init().producer_epoch)

    def share(self) -> None:
        group = f"{self.prefix}-share"
        topic = next(
            one.topic_id for one in self.wire.call(ApiKey.METADATA, 12, topics=None).topics if one.name == "jobs"
        )

        def beat(epoch: int, member_id: str = "m", **fields: Any) -> Any:
            first = {"subscribed_topic_names": ["jobs"]} if epoch == 0 else {}
            key = ApiKey.SHARE_GROUP_HEARTBEAT
            return self.call(
                key, 1, **{"group_id": group, "member_id": member_id, "member_epoch": epoch} | first | fields
            )

        def fetch(epoch: int, *said: tuple[int, int, list[int]], wait_ms: int = 0, **fields: Any) -> Any:
            batches = [{"first_offset": a, "last_offset": b, "acknowledge_types": kinds} for a, b, kinds in said]
            part = {"partition_index": 0, "acknowledgement_batches": batches}
            answer = self.call(
                ApiKey.SHARE_FETCH,
                2,
                **{
                    "group_id": group,
                    "member_id": "m",
                    "share_session_epoch": epoch,
                    "max_wait_ms": wait_ms,
                    "min_bytes": 1,
                    "max_bytes": 1 << 20,
                    "max_records": 100,
                    "batch_size": 100,
                    "topics": [{"topic_id": topic, "partitions": [part]}],
                }
                | fields,
            )
            parts = [one for topic in answer.responses for one in topic.partitions]
            runs = [
                (run.first_offset, run.last_offset, run.delivery_count) for one in parts for run in one.acquired_records
            ]
            return answer.error_code, [one.acknowledge_error_code for one in parts if one.acknowledge_error_code], runs

        self.note("no group", (beat(1).error_code, beat(-1).error_code))
        self.note("no member", beat(0, "").error_code)
        self.note("no topics", beat(0, subscribed_topic_names=None).error_code)
        joined = beat(0)
        self.note("joined", (joined.error_code, joined.heartbeat_interval))
        self.note("ahead", beat(99).error_code)
        self.note("stranger", beat(1, "x").error_code)
        self.note("no session", fetch(1)[0])
        self.note("opened", fetch(0))
        self.note("another epoch", fetch(9)[0])
        admin = {
            "group_id": group,
            "topics": [{"topic_name": "jobs", "partitions": [{"partition_index": 0, "start_offset": 0}]}],
        }
        answer = self.call(ApiKey.ALTER_SHARE_GROUP_OFFSETS, 0, **admin)
        self.note("alter, with members", answer.error_code or answer.responses[0].partitions[0].error_code)
        self.note("closed", fetch(-1)[0])
        self.note("left", (beat(-1).member_epoch, beat(1).error_code))
        self.note("deleted", (self.delete(group), self.delete(group)))


@pytest.mark.parametrize("part", ["classic", "consumer", "transactions", "share"])
def test_every_answer_is_the_one_that_kafka_gives(kafka, ours, part):
    from confluent_kafka.admin import AdminClient, NewTopic

    said = []
    for broker in (kafka, ours):
        admin = AdminClient({"bootstrap.servers": broker.address})
        for made in admin.create_topics([NewTopic("orders", 4, 1), NewTopic("jobs", 1, 1)]).values():
            if made.exception(120) is not None:
                assert "TOPIC_ALREADY_EXISTS" in str(made.exception())
        script = Script(broker.address, f"same-{part}")
        script.find(ApiKey.FIND_COORDINATOR)
        getattr(script, part)()
        said.append(script.said)
    theirs, mine = said
    assert mine == theirs
