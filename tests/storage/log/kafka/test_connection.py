"""A connection among others: order, reading ahead, slow readers, memory."""

import time
import tracemalloc
from collections.abc import Callable

from mainspring.storage.log.kafka.registry import ApiKey
from mainspring.storage.log.kafka.settings import KafkaSettings
from mainspring.storage.log.records import Record, build
from tests.fixtures_kafka import OurBroker
from tests.storage.log.kafka.topics import BATCH, NOW_MS, end_offset, make_topic, produce
from tests.storage.log.kafka.wire import Wire, answer_of, request


def until(happened: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def test_answers_come_in_the_order_of_requests_however_long_each_takes(ours: OurBroker) -> None:
    with Wire(ours.port) as wire:
        make_topic(wire)
        partition = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1 << 20}
        data = [{"name": "t", "partition_data": [{"index": 0, "records": BATCH}]}]
        sent = []
        for number in range(40):
            match number % 4:
                case 0:
                    topics = [{"topic": "t", "partitions": [partition]}]
                    fields = {"max_wait_ms": 1, "min_bytes": 1, "max_bytes": 1 << 20, "topics": topics}
                    sent.append((ApiKey.FETCH, 4, fields))
                case 3:
                    sent.append((ApiKey.METADATA, 9, {"topics": None}))
                case _:
                    sent.append((ApiKey.PRODUCE, 7, {"acks": -1, "timeout_ms": 1000, "topic_data": data}))
        wire.send(
            b"".join(request(key, version, number, **fields) for number, (key, version, fields) in enumerate(sent))
        )
        placed = []
        for number, (key, version, _) in enumerate(sent):
            correlation_id, answer = answer_of(key, version, wire.frame())
            assert correlation_id == number
            if key == ApiKey.PRODUCE:
                placed.append(answer.responses[0].partition_responses[0].base_offset)
        assert placed == list(range(0, 2 * len(placed), 2))


def test_thousands_of_requests_can_be_sent_before_the_first_answer_is_read(ours: OurBroker) -> None:
    data = [{"name": "t", "partition_data": [{"index": 0, "records": BATCH}]}]
    with Wire(ours.port) as wire:
        make_topic(wire)
        fields = {"acks": -1, "timeout_ms": 30_000, "topic_data": data}
        wire.send(b"".join(request(ApiKey.PRODUCE, 7, number, **fields) for number in range(3000)))
        for number in range(3000):
            correlation_id, answer = answer_of(ApiKey.PRODUCE, 7, wire.frame())
            assert (correlation_id, answer.responses[0].partition_responses[0].base_offset) == (number, 2 * number)


def test_records_without_acknowledgement_are_stored_and_not_answered(ours: OurBroker) -> None:
    data = [{"name": "t", "partition_data": [{"index": 0, "records": BATCH}]}]
    with Wire(ours.port) as wire:
        make_topic(wire)
        for number in range(20):
            wire.send(request(ApiKey.PRODUCE, 7, number, acks=0, timeout_ms=1000, topic_data=data))
        assert produce(wire, BATCH) == 0
        assert end_offset(wire) == 42


def test_a_slow_reader_pauses_nobody_but_itself(ours: OurBroker) -> None:
    large = build([Record(NOW_MS, None, b"x" * 900_000)])
    with Wire(ours.port) as wire, Wire(ours.port) as slow:
        make_topic(wire)
        for _ in range(8):
            assert produce(wire, large) == 0
        partition = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 8 << 20}
        fields = {"max_wait_ms": 0, "min_bytes": 1, "max_bytes": 8 << 20}
        fetch = request(ApiKey.FETCH, 4, **fields, topics=[{"topic": "t", "partitions": [partition]}])
        slow.send(fetch * 20)
        until(lambda: any(not connection._writable for connection in ours.listener._open))
        for _ in range(20):
            assert wire.call(ApiKey.API_VERSIONS, 0).error_code == 0
            held = max(connection._transport.get_write_buffer_size() for connection in list(ours.listener._open))
            assert held < 10 << 20, "one answer and no more"
        for _ in range(20):
            assert len(slow.frame()) > 7_000_000


def test_a_connection_that_is_refused_mid_way_still_gets_the_answers_before(ours: OurBroker) -> None:
    with Wire(ours.port) as wire:
        make_topic(wire)
        data = [{"name": "t", "partition_data": [{"index": 0, "records": BATCH}]}]
        good = request(ApiKey.PRODUCE, 7, 1, acks=-1, timeout_ms=1000, topic_data=data)
        wire.send(good * 3 + b"\xff\xff\xff\xff")
        for _ in range(3):
            assert answer_of(ApiKey.PRODUCE, 7, wire.frame())[0] == 1
        assert wire.is_closed()


def test_an_idle_connection_costs_little_memory(ours: OurBroker) -> None:
    count = 200
    with Wire(ours.port) as first:
        first.call(ApiKey.API_VERSIONS, 0)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            wires = [Wire(ours.port) for _ in range(count)]
            for wire in wires:
                wire.call(ApiKey.API_VERSIONS, 0)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        for wire in wires:
            wire.socket.close()
    assert (after - before) / count < 16 * 1024, "clients included"


def test_a_silent_connection_is_cut_off(make_ours: Callable[..., OurBroker]) -> None:
    broker = make_ours(settings=KafkaSettings(connections_max_idle_ms=0))
    with Wire(broker.port) as wire:
        wire.call(ApiKey.API_VERSIONS, 0)
        broker.call(_look_after(broker))
        assert wire.is_closed()


def _look_after(broker: OurBroker) -> Callable[[], object]:
    async def look() -> None:
        broker.listener._look_after()

    return look


def test_a_connection_with_nothing_on_its_way_closes_when_it_is_asked_to(ours: OurBroker) -> None:
    with Wire(ours.port) as wire:
        make_topic(wire)
        wire.call(ApiKey.API_VERSIONS, 0)

        async def go_away() -> None:
            for connection in list(ours.listener._open):
                connection.go_away()

        ours.call(go_away)
        assert wire.is_closed()
