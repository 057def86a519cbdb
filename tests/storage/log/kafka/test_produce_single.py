"""The short way of the commonest Produce request: the same answers as the long one, and nothing but what fits it."""

import pytest

from mainspring.storage.log.kafka import codec, produce_keys, produce_single
from mainspring.storage.log.kafka.registry import ApiKey
from tests.fixtures_kafka import OurBroker
from tests.storage.log.kafka.topics import BATCH, make_topic
from tests.storage.log.kafka.wire import Wire, request

VERSIONS = range(9, 14)


def frame_of(version: int, topic: object, index: int = 0, **fields: object) -> tuple[memoryview, int]:
    name = {"topic_id": topic} if version >= 13 else {"name": topic}
    data = [name | {"partition_data": [{"index": index, "records": BATCH}]}]
    frame = memoryview(
        request(ApiKey.PRODUCE, version, **({"acks": -1, "timeout_ms": 1, "topic_data": data} | fields))
    )[4:]
    return frame, codec.client(frame, flexible=True)[1]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_second_request_is_answered_as_the_first(ours: OurBroker, version: int) -> None:
    with Wire(ours.port) as wire:
        make_topic(wire)
        topic_id = wire.call(ApiKey.METADATA, 12, topics=None).topics[0].topic_id
        name = {"topic_id": topic_id} if version >= 13 else {"name": "t"}
        data = [name | {"partition_data": [{"index": 0, "records": BATCH}]}]
        answers = [wire.call(ApiKey.PRODUCE, version, acks=-1, timeout_ms=1, topic_data=data) for _ in range(3)]
        assert len(ours.broker.produce_shapes) == 1
        parts = [answer.responses[0].partition_responses[0] for answer in answers]
        assert [part.base_offset for part in parts] == [0, 2, 4]
        assert {(part.error_code, part.error_message, part.record_errors) for part in parts} == {(0, None, ())}
        damaged = [name | {"partition_data": [{"index": 0, "records": BATCH[:-1] + b"?"}]}]
        answer = wire.call(ApiKey.PRODUCE, version, acks=-1, timeout_ms=1, topic_data=damaged)
        assert answer.responses[0].partition_responses[0].error_code == 2


def test_only_a_request_that_differs_in_its_records_alone_is_found() -> None:
    shapes: produce_single.Shapes = {}
    frame, at = frame_of(9, "t")
    assert produce_single.find(frame, at, 9, shapes) is None
    produce_single.remember(frame, at, 9, shapes, "t", 0, -1)
    found = produce_single.find(frame, at, 9, shapes)
    assert found is not None
    assert (found[0].topic, found[0].partition, found[0].acks, bytes(found[1])) == ("t", 0, -1, BATCH)
    others = [
        frame_of(9, "u"),
        frame_of(9, "t", 1),
        frame_of(9, "t", acks=1),
        frame_of(9, "t", transactional_id="x"),
        frame_of(9, "t", topic_data=[]),
        frame_of(9, "t", topic_data=[{"name": "t", "partition_data": [{"index": 0, "records": None}]}]),
        frame_of(9, "t", topic_data=[{"name": "t", "partition_data": [{"index": 0, "records": BATCH}] * 2}]),
        frame_of(9, "t", topic_data=[{"name": "t", "partition_data": [{"index": 0, "records": BATCH}]}] * 2),
    ]
    for other, begin in others:
        assert produce_single.find(other, begin, 9, shapes) is None
    for end in range(at, len(frame)):
        assert produce_single.find(frame[:end], at, 9, shapes) is None
    assert produce_keys.read(frame, at, 9).parts[0].records == BATCH


def test_shapes_are_bounded() -> None:
    frame, at = frame_of(9, "t")
    full = produce_single.Shape("t", 0, -1, b"")
    shapes: produce_single.Shapes = {b"%d" % number: full for number in range(produce_single.SHAPES_MAX)}
    produce_single.remember(frame, at, 9, shapes, "t", 0, -1)
    assert len(shapes) == 1
