"""Ids beside what people use: snowflake-id, a class with a lock, uuid6, uuid-utils, python-ulid and pybase62.

All in one thread, called as their documentation shows.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import base62 as pybase62
import uuid6
import uuid_utils
from snowflake import SnowflakeGenerator
from ulid import ULID

import mainspring.primitives.ids
from bench.comparison import Comparison, alternate
from mainspring.core.clock import SystemClock
from mainspring.core.database import SqliteDatabase
from mainspring.primitives.ids import MAINSPRING, Ids, IdsSettings, Kinds, Minter, TooFast, base62, from_base62
from mainspring.primitives.ids.tables import tables

BATCH = 10_000
ROUNDS = 15
"""Of a run that is worth reading; one of less than a second only shows that everything here still works."""

LIMIT_PER_S = 4_096_000
START_MS_MAX = 5.0
FOREVER_MS = 1 << 42

Batch = Callable[[], int]


def run(seconds: float) -> list[Comparison]:
    """Every line of the specification's "Speed", each in about `seconds`."""
    kinds = Kinds(SystemClock())
    locked = Locked(7)
    generator = SnowflakeGenerator(7)
    texts = [base62(one) for one in _minter().take(1_000)]
    numbers = [from_base62(text) for text in texts]
    each = seconds / 9
    return [
        _compare("next()", OneByOne(), "snowflake-id next()", lambda: _peer_next(generator), each, 2.0),
        _compare("next()", OneByOne(), "a class with threading.Lock", lambda: _calls(locked.next), each, 3.0),
        _take_4096(each),
        _compare("uuid7()", lambda: _calls(kinds.uuid7), "uuid6.uuid7()", lambda: _calls(uuid6.uuid7), each, 4.0),
        _compare(
            "uuid7()",
            lambda: _calls(kinds.uuid7),
            "uuid_utils.uuid7() (Rust)",
            lambda: _calls(uuid_utils.uuid7),
            each,
            None,
            note="theirs is compiled; ours gives a standard UUID",
        ),
        _compare("ulid()", lambda: _calls(kinds.ulid), "str(python-ulid)", _peer_ulid, each, 2.0),
        _compare(
            "base62, writing",
            lambda: _each(base62, numbers),
            "pybase62 encode",
            lambda: _each(pybase62.encode, numbers),
            each,
            3.0,
        ),
        _compare(
            "base62, reading",
            lambda: _each(from_base62, texts),
            "pybase62 decode",
            lambda: _each(pybase62.decode, texts),
            each,
            3.0,
        ),
        _start_to_first_id(each),
    ]


class Locked:
    """What one finds in a thousand repositories: a lock, the clock, a sequence."""

    def __init__(self, worker: int) -> None:
        self._lock = Lock()
        self._worker = worker
        self._last = 0
        self._sequence = 0

    def next(self) -> int:
        with self._lock:
            now = int(time.time() * 1000)
            if now == self._last:
                self._sequence = (self._sequence + 1) & 4095
                if self._sequence == 0:
                    while now <= self._last:
                        now = int(time.time() * 1000)
            else:
                self._sequence = 0
            self._last = now
            return (now - 1_735_689_600_000) << 22 | self._worker << 12 | self._sequence


def _compare(
    name: str, ours: Batch, peer_name: str, peer: Batch, seconds: float, target: float | None, note: str = ""
) -> Comparison:
    figures = alternate(_rate(ours), _rate(peer), seconds, rounds=ROUNDS if seconds >= 0.1 else 1)
    return Comparison(name, figures[0], peer_name, figures[1], "per second", target=target, note=note)


def _rate(batch: Batch) -> Callable[[float], float]:
    def measured(seconds: float) -> float:
        # The processor's time and not the wall's: what else runs on the machine is neither side's doing.
        done, begin = 0, time.process_time()
        while True:
            done += batch()
            took = time.process_time() - begin
            if took >= seconds:
                return done / took

    return measured


def _minter() -> Minter:
    return Minter(MAINSPRING, 7, SystemClock(), 0, FOREVER_MS)


class OneByOne:
    """Batches of `next()`, by another minter once one has run ahead: what a minter may give is not what is measured."""

    def __init__(self) -> None:
        self._minter = _minter()

    def __call__(self) -> int:
        if self._minter.ahead_ms > 500:
            self._minter = _minter()
        mint = self._minter.next
        for _ in range(BATCH):
            mint()
        return BATCH


def _peer_next(generator: SnowflakeGenerator) -> int:
    for _ in range(BATCH):
        next(generator)
    return BATCH


def _calls(call: Callable[[], object]) -> int:
    for _ in range(BATCH):
        call()
    return BATCH


def _peer_ulid() -> int:
    for _ in range(BATCH):
        str(ULID())
    return BATCH


def _each(call: Callable[[Any], object], over: Sequence[Any]) -> int:
    for one in over:
        call(one)
    return len(over)


def _take_4096(seconds: float) -> Comparison:
    """The steady rate of one minter once the second that it may run ahead is used up."""
    minter = _minter()
    ours = []
    for _ in range(3):
        done, begin, steady = 0, time.perf_counter(), False
        while True:
            try:
                done += len(minter.take(4096))
            except TooFast as error:
                if not steady:
                    steady, done, begin = True, 0, time.perf_counter()
                time.sleep(error.retry_after_ms / 2000)
            took = time.perf_counter() - begin
            if steady and took >= seconds / 3:
                break
        ours.append(done / took)
    name = "the limit of 12 sequence bits"
    return Comparison("take(4096), steady", ours, name, [float(LIMIT_PER_S)], "per second", target=0.95)


def _start_to_first_id(seconds: float) -> Comparison:
    """From `start()` on an embedded database that is open to the first id."""

    async def measure() -> list[float]:
        took: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            database = SqliteDatabase(Path(folder) / "ids.db", floor_bytes=0, ballast_bytes=0, write_deadline_s=60)
            await database.start()
            migrations = Path(mainspring.primitives.ids.__file__).parent / "migrations"
            await database.prepare("ids", tables, migrations)
            begin = time.perf_counter()
            while len(took) < 3 or time.perf_counter() - begin < seconds:
                ids = Ids(database, SystemClock(), IdsSettings(reserve_ms=60_000))
                at = time.perf_counter()
                await ids.start()
                ids.next()
                took.append((time.perf_counter() - at) * 1000)
                await ids.stop()
            await database.stop()
        return took

    took = asyncio.run(measure())
    return Comparison(
        "start to first id",
        took,
        "the bound of 5 ms",
        [START_MS_MAX],
        "ms",
        higher_is_better=False,
        target=1.0,
        note=f"the very first: {took[0]:.1f} ms",
    )
