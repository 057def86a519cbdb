"""Kafka's own tool reads our files: every batch is valid, every index entry is where it says."""

import time
from pathlib import Path

import pytest

from mainspring.core.clock import SystemClock
from mainspring.storage.log.producers import Origin
from mainspring.storage.log.records import Codec, build, marker
from tests.fixtures_java import JavaTools

from .logs import append, running

pytestmark = pytest.mark.peer


def dump(tools: JavaTools, paths: list[Path], *more: str) -> str:
    """What Kafka's DumpLogSegments says of the files."""
    return tools.run("kafka.tools.DumpLogSegments", *more, "--files", ",".join(map(str, paths)))


async def test_kafka_finds_every_batch_index_and_snapshot_as_it_should_be(tmp_path, java_tools):
    config = {"segment.bytes": "9000", "index.interval.bytes": "300"}
    async with running(tmp_path, SystemClock()) as engine:
        plain = (await engine.create_topic("plain", config=config)).partitions[0]
        keyed = (await engine.create_topic("keyed", config=config | {"cleanup.policy": "compact"})).partitions[0]
        sequences = {5: 0, 6: 0}
        for n in range(150):
            now_ms = time.time_ns() // 1_000_000
            records = [(now_ms + at, b"key%d" % (n % 7), b"%d" % n * 9, [("h", b"x")]) for at in range(1 + n % 3)]
            id = 5 + n % 2
            more = {"producer_id": id, "epoch": 0, "sequence": sequences[id], "transactional": True}
            plain.append(build(records, codec=Codec(n % 5), **more))
            sequences[id] += len(records)
            if n % 10 == 9:
                for ended in list(plain.open_transactions):
                    plain.append(marker(ended, 0, n % 20 == 9, 3, now_ms), origin=Origin.COORDINATOR)
            appending = keyed.append(build(records, codec=Codec(n % 5)))
        await append(plain, b"last", at_ms=time.time_ns() // 1_000_000)
        await appending.durable()
        await engine.cleaner.clean_one(keyed)
        end = plain.end
    logs = sorted(tmp_path.glob("*-0/*.log"))
    assert len(logs) > 4
    more = [*tmp_path.glob("plain-0/*.txnindex"), *tmp_path.glob("plain-0/*.snapshot")]
    said = dump(java_tools, logs + sorted(more), "--deep-iteration")
    assert f"offset: {end - 1} " in said and "isvalid: false" not in said and "Found" not in said
    assert said.count("isvalid: true") > 150 and "endTxnMarker: ABORT coordinatorEpoch: 3" in said
    assert "firstOffset" in said and "producerId: 5 producerEpoch: 0 coordinatorEpoch: 3" in said
    indexes = sorted([*tmp_path.glob("*-0/*.index"), *tmp_path.glob("*-0/*.timeindex")])
    assert sum(path.stat().st_size for path in indexes) > 200
    said = dump(java_tools, indexes, "--verify-index-only")
    assert "ismatch" not in said and "out of order" not in said.lower()
