"""kill -9 at every crash point of the engine: nothing acknowledged is missing, nothing appears half, nothing comes back."""

import asyncio
import os
import re
import signal
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from mainspring.core.clock import SystemClock
from mainspring.core.crash import VARIABLE
from mainspring.storage import log
from mainspring.storage.log.engine import Engine

from .logs import all_of
from .test_compaction import table

SOURCES = Path(log.__file__).parent
ENGINE = ["writer", "directory", "engine", "recovery", "cleaner"]
POINTS = sorted(
    {
        point
        for name in ENGINE
        for point in re.findall(r'crash_point\("([\w.]+)"\)', (SOURCES / f"{name}.py").read_text())
    }
)
AT_START = {"log.recover.truncated", "log.start.recovered"}
REPOSITORY = Path(__file__).resolve().parents[3]


class Promised:
    """What the children were promised, all runs together."""

    def __init__(self) -> None:
        self.topics: set[str] = set()
        self.gone: set[str] = set()
        self.acked: dict[tuple[str, int], dict[int, str]] = defaultdict(dict)
        self.starts: dict[tuple[str, int], int] = defaultdict(int)
        self.stopped = False

    def hear(self, line: str) -> None:
        match line.split():
            case ["topic", name]:
                self.topics.add(name)
                self.gone.discard(name)
            case ["gone", name]:
                self.gone.add(name)
            case ["acked", topic, index, offset, value]:
                assert self.acked[topic, int(index)].setdefault(int(offset), value) == value
            case ["start", topic, index, offset]:
                self.starts[topic, int(index)] = int(offset)
            case ["stopped"]:
                self.stopped = True
            case other:
                raise AssertionError(other)


async def run_child(folder: Path, name: str, promised: Promised, crash_at: str | None = None) -> int:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    environment.pop(VARIABLE, None)
    if crash_at is not None:
        environment[VARIABLE] = crash_at
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.storage.log.crash_child", str(folder), name,
        stdout=asyncio.subprocess.PIPE, env=environment, cwd=REPOSITORY,
    )  # fmt: skip
    assert child.stdout is not None
    async for line in child.stdout:
        # What the kill has cut off was not said.
        if line.endswith(b"\n"):
            promised.hear(line.decode())
    return await child.wait()


async def check(folder: Path, promised: Promised) -> None:
    """Opens the log as the next process would, and holds it against what was promised."""
    engine = Engine([folder], SystemClock())
    await engine.start()
    try:
        assert promised.topics - promised.gone <= set(engine.topics)
        for (topic, index), acked in promised.acked.items():
            partition = engine.partition(topic, index)
            start = promised.starts[topic, index]
            assert start <= partition.log_start <= partition.high_watermark == partition.end
            records = {record.offset: record.value.decode() for record in all_of(partition)}
            assert list(records) == sorted(records)
            if topic == "keyed":
                _check_keyed(partition, acked, records)
                continue
            kept = {offset: value for offset, value in acked.items() if offset >= partition.log_start}
            assert kept.items() <= records.items()
            assert all(start <= offset for offset in acked if offset not in kept) or start
    finally:
        await engine.stop()


def _check_keyed(partition, acked: dict[int, str], records: dict[int, str]) -> None:
    """Of each key the last acknowledged value is there, or one that was sent after it."""
    last: dict[bytes, tuple[int, str]] = {}
    for offset in sorted(acked):
        last[f"key{int(acked[offset].rsplit('.', 1)[1]) % 3}".encode()] = (offset, acked[offset])
    there = {record.key: record.offset for record in all_of(partition)}
    for key, (offset, value) in last.items():
        assert there[key] >= offset
        if there[key] == offset:
            assert table(partition)[key].decode() == value
    assert all(records[offset] == acked[offset] for offset in records if offset in acked)


@pytest.mark.parametrize("point", POINTS)
async def test_nothing_promised_is_lost_where_a_crash_comes_at(tmp_path, point):
    promised = Promised()
    if point in AT_START:
        assert await run_child(tmp_path, "first", promised, "log.append.synced:40") == -signal.SIGKILL
        for path in sorted(tmp_path.glob("many-*/*.log")):
            with path.open("ab") as file:
                file.write(b"half a batch that nobody was promised")
    assert await run_child(tmp_path, "second", promised, f"{point}:1") == -signal.SIGKILL
    await check(tmp_path, promised)


async def test_a_process_that_is_never_killed_keeps_the_same_promises(tmp_path):
    promised = Promised()
    for name in ("first", "second"):
        assert await run_child(tmp_path, name, promised) == 0 and promised.stopped
        await check(tmp_path, promised)


@pytest.mark.slow
@pytest.mark.parametrize("time", [2, 3, 5, 8])
@pytest.mark.parametrize("point", [point for point in POINTS if point not in AT_START])
async def test_nothing_promised_is_lost_in_a_chain_of_crashes(tmp_path, point, time):
    promised = Promised()
    for life in range(3):
        await run_child(tmp_path, f"life{life}", promised, f"{point}:{time + life}")
        await check(tmp_path, promised)


def test_the_spec_names_no_step_without_a_crash_point():
    for step in ("append", "journal", "roll", "compact", "recover", "checkpoint", "retire", "topic"):
        assert any(point.startswith(f"log.{step}.") for point in POINTS)
