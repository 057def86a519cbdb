"""The log's engine in process, beside what a program would write events into by itself: SQLite, or a file and its sync.

Every append of both sides is durable before it counts. Callers are concurrent where the line says so; the peer gets them one
after the other, since that is how it is called.
"""

import asyncio
import gc
import os
import shutil
import sqlite3
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from bench.comparison import Comparison, alternate
from mainspring.core.clock import SystemClock
from mainspring.storage.log.engine import Engine
from mainspring.storage.log.partition import Partition
from mainspring.storage.log.records import batches_in, build, records_in
from mainspring.storage.log.settings import FlushPolicy, LogSettings

VALUE = b"v" * 100
CALLERS = 512
RECORDS = 1_000
PARTITIONS = 1_000
IDLE_PARTITIONS = 2_000


def run(seconds: float) -> list[Comparison]:
    """Appends and reads by records a second, and what an idle partition costs."""
    return [
        _line("append of single records, durable", _singles, _row_by_row, "SQLite, a commit for each", seconds),
        _line("append of 1,000 records, durable", _batches, _rows, "SQLite, one commit", seconds),
        _line("append to 1,000 partitions, durable", _spread, _file_by_file, "1,000 files, each synced", seconds),
        _line("append of single records, unsynced", _singles_async, _row_unsynced, "SQLite, synchronous=OFF", seconds),
        _line("read of the newest records", _tail, _select, "SQLite, by row id", seconds),
        _line("read of old records", _old, _select, "SQLite, by row id", seconds),
        _memory(),
    ]


def _line(
    name: str, ours: Callable[[float], float], peer: Callable[[float], float], peer_name: str, seconds: float
) -> Comparison:
    own, other = alternate(ours, peer, seconds)
    return Comparison(name, own, peer_name, other, "records/s")


# Ours


def _with_engine(
    work: Callable[[Engine, float], Awaitable[float]], seconds: float, partitions: int = 1, **settings: object
) -> float:
    folder = Path(tempfile.mkdtemp(prefix="mainspring-bench-"))

    async def whole() -> float:
        engine = Engine([folder], SystemClock(), LogSettings(**settings))
        await engine.start()
        await engine.create_topic("t", partitions)
        try:
            return await work(engine, seconds)
        finally:
            await engine.stop()

    try:
        return uvloop.run(whole())
    finally:
        shutil.rmtree(folder)


def _batch(records: int = 1) -> bytes:
    return build([(time.time_ns() // 1_000_000, None, VALUE, ())] * records)


async def _append_for(partitions: list[Partition], callers: int, seconds: float) -> float:
    """Callers that each append one record after the other, to partitions that have been written to."""
    data = _batch()
    await asyncio.gather(*(partition.append(data).durable() for partition in partitions))
    end = time.perf_counter() + seconds

    async def caller(partition: Partition) -> int:
        count = 0
        while time.perf_counter() < end:
            await partition.append(data).durable()
            count += 1
        return count

    begun = time.perf_counter()
    counts = await asyncio.gather(*(caller(partitions[n % len(partitions)]) for n in range(callers)))
    return sum(counts) / (time.perf_counter() - begun)


def _singles(seconds: float) -> float:
    return _with_engine(lambda engine, s: _append_for(engine.topics["t"].partitions, CALLERS, s), seconds)


def _singles_async(seconds: float) -> float:
    return _with_engine(
        lambda engine, s: _append_for(engine.topics["t"].partitions, CALLERS, s),
        seconds,
        flush_policy=FlushPolicy.ASYNC,
    )


def _spread(seconds: float) -> float:
    return _with_engine(
        lambda engine, s: _append_for(engine.topics["t"].partitions, PARTITIONS, s), seconds, PARTITIONS
    )


def _batches(seconds: float) -> float:
    async def work(engine: Engine, seconds: float) -> float:
        partition = engine.partition("t", 0)
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            # Records are encoded in the measured time, as `append_many` does.
            await asyncio.gather(*(partition.append(_batch(RECORDS)).durable() for _ in range(8)))
            count += 8 * RECORDS
        return count / (time.perf_counter() - begun)

    return _with_engine(work, seconds)


def _read(seconds: float, cache_bytes_max: int) -> float:
    async def work(engine: Engine, seconds: float) -> float:
        partition = engine.partition("t", 0)
        await asyncio.gather(*(partition.append(_batch(100)).durable() for _ in range(80)))
        begun, count, offset = time.perf_counter(), 0, 0
        while time.perf_counter() - begun < seconds:
            for buffer in partition.read(offset, 1 << 16).buffers:
                for at, header in batches_in(buffer):
                    count += sum(1 for _ in records_in(memoryview(buffer)[at : at + header.size_bytes]))
                    offset = header.next_offset
            offset = 0 if offset >= partition.high_watermark else offset
        return count / (time.perf_counter() - begun)

    return _with_engine(work, seconds, cache_bytes_max=cache_bytes_max)


def _tail(seconds: float) -> float:
    return _read(seconds, 16 << 20)


def _old(seconds: float) -> float:
    return _read(seconds, 0)


def _memory() -> Comparison:
    async def work(engine: Engine, seconds: float) -> float:
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        await engine.create_topic("idle", IDLE_PARTITIONS)
        data = _batch()
        await asyncio.gather(*(p.append(data).durable() for p in engine.topics["idle"].partitions))
        await engine.upkeep.checkpoint()
        gc.collect()
        each = (tracemalloc.get_traced_memory()[0] - before) / IDLE_PARTITIONS
        tracemalloc.stop()
        return each

    each = _with_engine(work, 0, flush_policy=FlushPolicy.ASYNC)
    note = "the specification allows 2,048"
    return Comparison("memory of an idle partition that was written to", [each], "", [], "bytes", False, note=note)


# The peers


def _with_rows(synchronous: str, work: Callable[[sqlite3.Connection], int], seconds: float) -> float:
    folder = Path(tempfile.mkdtemp(prefix="mainspring-bench-"))
    connection = sqlite3.connect(folder / "events.db", isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, at INTEGER, key BLOB, value BLOB)")
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            count += work(connection)
        return count / (time.perf_counter() - begun)
    finally:
        connection.close()
        shutil.rmtree(folder)


INSERT = "INSERT INTO events (at, key, value) VALUES (?, ?, ?)"


def _one_row(connection: sqlite3.Connection) -> int:
    connection.execute(INSERT, (time.time_ns(), None, VALUE))
    return 1


def _row_by_row(seconds: float) -> float:
    return _with_rows("FULL", _one_row, seconds)


def _row_unsynced(seconds: float) -> float:
    return _with_rows("OFF", _one_row, seconds)


def _rows(seconds: float) -> float:
    def work(connection: sqlite3.Connection) -> int:
        connection.execute("BEGIN")
        connection.executemany(INSERT, [(time.time_ns(), None, VALUE)] * RECORDS)
        connection.execute("COMMIT")
        return RECORDS

    return _with_rows("FULL", work, seconds)


def _select(seconds: float) -> float:
    state = {"filled": False, "at": 0}

    def work(connection: sqlite3.Connection) -> int:
        if not state["filled"]:
            connection.execute("BEGIN")
            connection.executemany(INSERT, [(time.time_ns(), None, VALUE)] * 8_000)
            connection.execute("COMMIT")
            state["filled"] = True
        rows = connection.execute("SELECT * FROM events WHERE id > ? ORDER BY id LIMIT 500", (state["at"],)).fetchall()
        state["at"] = rows[-1][0] if len(rows) == 500 and rows[-1][0] < 8_000 else 0
        return len(rows)

    return _with_rows("OFF", work, seconds)


def _file_by_file(seconds: float) -> float:
    folder = Path(tempfile.mkdtemp(prefix="mainspring-bench-"))
    files = [os.open(folder / str(n), os.O_CREAT | os.O_WRONLY | os.O_APPEND) for n in range(PARTITIONS)]
    try:
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            os.write(files[count % PARTITIONS], VALUE)
            os.fdatasync(files[count % PARTITIONS])
            count += 1
        return count / (time.perf_counter() - begun)
    finally:
        for handle in files:
            os.close(handle)
        shutil.rmtree(folder)
