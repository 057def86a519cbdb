"""What real clients send, damaged in every way: no crash, no hang, no growth, and no fault of ours."""

import gc
import logging
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random

import pytest

from mainspring.storage.log.kafka import codec, produce_keys
from mainspring.storage.log.kafka.codec import Malformed
from mainspring.storage.log.kafka.connection import Connection
from mainspring.storage.log.kafka.listener import Listener
from mainspring.storage.log.kafka.registry import ApiKey, table
from mainspring.storage.log.kafka.settings import KafkaSettings
from mainspring.storage.log.settings import LogSettings
from tests.fixtures_kafka import OurBroker
from tests.storage.log.kafka.clients import aio, confluent, pure
from tests.storage.log.kafka.wire import Wire, framed

BOUND_S = 8.0
"""Fuzzing goes on until it has done enough or this has passed, whichever is first."""
EDGES = [0, 1, -1, 2, 0x7F, 0x80, 0xFF, 2**15 - 1, -(2**15), 2**31 - 1, -(2**31), 2**32 - 1]


class RecordingListener(Listener):
    """Keeps what clients send, frame by frame."""

    corpus: list[bytes]

    def __call__(self) -> Connection:
        return _Recording(self._broker, self, self._shared)


class _Recording(Connection):
    def _begin(self, frame: memoryview) -> None:
        CORPUS.append(bytes(frame))
        super()._begin(frame)


CORPUS: list[bytes] = []


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Frames of three clients that share no code, at most a dozen of each key and version."""
    if not CORPUS:
        broker = OurBroker(tmp_path_factory.mktemp("corpus") / "log", make_listener=RecordingListener)
        broker.start()
        try:
            confluent.run(broker.address, "corpus-confluent")
            confluent.transactions(broker.address, "corpus-transactions")
            aio.run(broker.address, "corpus-aio")
            pure.run(broker.address, "corpus-pure")
        finally:
            broker.stop()
    kept: dict[bytes, list[bytes]] = {}
    for frame in CORPUS:
        of_kind = kept.setdefault(frame[:4], [])
        if len(of_kind) < 12 and len(frame) < 20_000:
            of_kind.append(frame)
    return [frame for frames in kept.values() for frame in frames]


def damaged(corpus: list[bytes], random: Random) -> Iterator[bytes]:
    """Frames with bits flipped, numbers at their edges, pieces missing, doubled, or of another frame."""
    while True:
        out = bytearray(random.choice(corpus))
        for _ in range(random.choice([1, 1, 1, 2, 5])):
            at = random.randrange(len(out)) if out else 0
            match random.randrange(6):
                case 0 if out:
                    out[at] ^= 1 << random.randrange(8)
                case 1 if out:
                    out[at] = random.randrange(256)
                case 2:
                    del out[at : at + random.choice([1, 2, 4, 50])]
                case 3:
                    out[at:at] = out[at : at + random.randrange(20)]
                case 4:
                    other = random.choice(corpus)
                    out[at:] = other[random.randrange(len(other)) :]
                case _:
                    layout = random.choice([">h", ">i"])
                    size = struct.calcsize(layout)
                    if at + size <= len(out):
                        low = -(1 << (8 * size - 1))
                        value = random.choice(EDGES)
                        struct.pack_into(layout, out, at, max(low, min(-low - 1, value)))
        yield bytes(out)


def parse(frame: bytes) -> None:
    """As far as a connection goes before a handler has its say. Raises `Malformed`."""
    view = memoryview(frame)
    key, version, _ = codec.header(view)
    entry = table().get(key)
    if entry is None or version not in entry.versions:
        return
    _, at = codec.client(view, flexible=codec.is_flexible(key, version))
    if key == ApiKey.PRODUCE:
        produce_keys.read(view, at, version)
    else:
        codec.read(key, version, view, at)


def test_a_damaged_frame_is_read_or_malformed_and_nothing_else(corpus: list[bytes]) -> None:
    frames, until_s = damaged(corpus, Random(20)), time.monotonic() + BOUND_S
    for frame in corpus:
        parse(frame)
    for entry in table().values():
        for version in entry.versions:
            codec.request_reader(entry.key, version)
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for number in range(20_000):
            if number % 500 == 0 and time.monotonic() > until_s:
                break
            with suppress(Malformed):
                parse(next(frames))
        gc.collect()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 4 << 20, "no count made it reserve memory"
    assert after - before < 1 << 20, "nothing is kept"


def test_damaged_frames_harm_nobody_but_their_own_connection(
    corpus: list[bytes], make_ours: Callable[..., OurBroker], caplog: pytest.LogCaptureFixture
) -> None:
    broker = make_ours(
        settings=KafkaSettings(auto_create_topics=False),
        log_settings=LogSettings(partitions_max=300, flush_policy="async"),
    )
    frames, until_s = damaged(corpus, Random(21)), time.monotonic() + BOUND_S
    caplog.set_level(logging.ERROR)
    with Wire(broker.port) as bystander:
        for number in range(3000):
            if time.monotonic() > until_s:
                break
            with Wire(broker.port) as wire:
                stream = b"".join(framed(next(frames)) for _ in range(1 + number % 4))
                wire.socket.settimeout(0.02)
                with suppress(OSError):
                    wire.send(stream[: len(stream) - number % 3])
                    wire.socket.recv(1 << 16)
            if number % 20 == 0:
                assert bystander.call(ApiKey.API_VERSIONS, 0).error_code == 0
        assert bystander.call(ApiKey.API_VERSIONS, 0).error_code == 0
    ours = [record for record in caplog.records if record.name.startswith("mainspring.storage.log.kafka")]
    assert [record.getMessage() + str(record.exc_info) for record in ours] == []
