"""Kafka's own decoders read what our coordinators write."""

from pathlib import Path

import pytest

from mainspring.core.clock import SystemClock
from mainspring.storage.log.engine import Engine
from mainspring.storage.log.groups.errors import MemberIdRequired
from mainspring.storage.log.groups.messages import Client, ConsumerHeartbeat, JoinGroup, ShareHeartbeat, SyncGroup
from mainspring.storage.log.groups.service import Groups
from mainspring.storage.log.groups.settings import GroupSettings
from mainspring.storage.log.internal_topics import java_hash, slot
from mainspring.storage.log.transactions import Transactions, TransactionSettings
from tests.fixtures_java import JavaTools


def dump(tools: JavaTools, folder: Path, topic: str, decoder: str) -> str:
    """What Kafka's DumpLogSegments reads in a topic of one partition."""
    log = next((folder / f"{topic}-0").glob("*.log"))
    return tools.run("kafka.tools.DumpLogSegments", decoder, "--files", str(log))


async def use(folder: Path) -> None:
    """Something of every kind of record."""
    clock = SystemClock()
    engine = Engine([folder], clock)
    await engine.start()
    groups = Groups(engine, clock, GroupSettings(internal_partitions=1, share_auto_offset_reset="earliest"))
    transactions = Transactions(engine, groups, clock, TransactionSettings(internal_partitions=1))
    await groups.start()
    await transactions.start()
    topic = await engine.create_topic("orders", 2)
    client = Client("c", "/127.0.0.1")
    fields = {
        "group": "classic",
        "client": client,
        "session_timeout_ms": 10_000,
        "rebalance_timeout_ms": 60_000,
        "protocol_type": "consumer",
        "protocols": (("range", b"\0\0\0\0\0\1\0\6orders\xff\xff\xff\xff"),),
    }
    with pytest.raises(MemberIdRequired) as required:
        await groups.ask(JoinGroup(member_id="", **fields))
    joined = await groups.ask(JoinGroup(member_id=required.value.member_id, **fields))
    shares = ((joined.member_id, b"\0\0\0\0\0\1\0\6orders\0\0\0\1\0\0\0\0\xff\xff\xff\xff"),)
    await groups.ask(SyncGroup(group="classic", member_id=joined.member_id, generation=1, assignments=shares))
    await groups.ask(
        ConsumerHeartbeat(
            group="new",
            member_id="m",
            member_epoch=0,
            instance="i",
            rack="r",
            client=client,
            rebalance_timeout_ms=30_000,
            topics=("orders",),
            regex="ord.*",
            owned={},
        )
    )
    await groups.ask(ShareHeartbeat(group="share", member_id="s", member_epoch=0, client=client, topics=("orders",)))
    async with transactions.transaction("copier") as t:
        await t.append("orders", 1, [(b"k", b"v", (), -1)])
        await t.commit_offsets("positions", {("orders", 0): 42})
    given = await groups.shares.fetch(
        "share", "s", [(topic.id, 1)], records_max=1, bytes_max=1_000, wait_ms=0, strictly=False
    )
    await groups.shares.acknowledge("share", "s", (topic.id, 1), [(0, 0, [2])])
    assert given
    await transactions.stop()
    await groups.stop()
    await engine.stop()


@pytest.mark.peer
async def test_kafka_reads_the_records_of_groups_transactions_and_shares(tmp_path, java_tools):
    await use(tmp_path)
    said = dump(java_tools, tmp_path, "__consumer_offsets", "--offsets-decoder")
    for part in (
        '"type":"2","data":{"group":"classic"}',
        '"protocolType":"consumer","generation":1,"protocol":"range"',
        '"type":"3","data":{"groupId":"new"}',
        '"type":"5","data":{"groupId":"new","memberId":"m"}',
        '"instanceId":"i","rackId":"r","clientId":"c","clientHost":"/127.0.0.1","subscribedTopicNames":["orders"]',
        '"subscribedTopicRegex":"ord.*"',
        '"type":"6"',
        '"type":"7"',
        '"type":"8"',
        '"memberEpoch":1,"previousMemberEpoch":0,"state":0',
        '"type":"16","data":{"groupId":"new","regularExpression":"ord.*"}',
        '"type":"10","data":{"groupId":"share","memberId":"s"}',
        '"type":"11"',
        '"type":"12"',
        '"type":"13"',
        '"type":"14"',
        '"type":"1","data":{"group":"positions","topic":"orders","partition":0}',
        '"offset":42,"leaderEpoch":-1,"metadata":""',
        "endTxnMarker: COMMIT",
    ):
        assert part in said, part + "\n" + said
    said = dump(java_tools, tmp_path, "__transaction_state", "--transaction-log-decoder")
    for part in (
        '"transactionalId":"copier"',
        '"transactionStatus":1,"transactionPartitions":[{"topic":"orders","partitionIds":[1]}]',
        '"transactionStatus":2',
        '"transactionStatus":4',
        '"clientTransactionVersion":2',
    ):
        assert part in said, part + "\n" + said
    said = dump(java_tools, tmp_path, "__share_group_state", "--share-group-state-decoder")
    for part in ('"groupId":"share"', '"snapshotEpoch":1', '"deliveryState":0,"deliveryCount":1'):
        assert part in said, part + "\n" + said


@pytest.mark.parametrize(
    ("text", "hashed"), [("", 0), ("group", 98_629_247), ("ü", 252), ("polygenelubricants", -(2**31))]
)
def test_keys_are_hashed_as_java_does(text, hashed):
    assert java_hash(text) == hashed
    assert 0 <= slot(text, 50) < 50
