"""kill -9 in the middle of writing: nothing that was answered is lost, and nothing is there by half."""

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mainspring.core.database import SqliteDatabase
from mainspring.core.database.core_tables import log_records
from mainspring.core.ports import Connection
from tests.core.database import crash_writer
from tests.needs import REPOSITORY


def run_until_killed(path: Path, answers: int) -> list[int]:
    """Kills a writer once it has given `answers` answers; gives all answers that it gave."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.core.database.crash_writer", str(path)], stdout=subprocess.PIPE, cwd=REPOSITORY
    ) as process:
        assert process.stdout is not None
        numbers = [int(process.stdout.readline() or -1) for _ in range(answers)]
        process.kill()
        rest, _ = process.communicate()
    *whole, cut = rest.split(b"\n")
    assert cut == b""
    return numbers + [int(line) for line in whole]


def everything(connection: Connection) -> tuple[list[Any], list[Any], list[Any]]:
    return (
        connection.execute(sa.select(crash_writer.left)).all(),
        connection.execute(sa.select(crash_writer.right)).all(),
        connection.execute(sa.select(log_records.c.value)).all(),
    )


async def check_after_crashes(path: Path, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    answered: set[int] = set()
    for _ in range(rounds):
        new = run_until_killed(path, answers=chance.randint(1, 300))
        assert answered.isdisjoint(new), "a number that had been answered was given again, so its row had been lost"
        answered.update(new)
        database = SqliteDatabase(path, floor_bytes=0, ballast_bytes=0, read_deadline_s=60)
        await database.start()
        left, right, events = await database.read(everything)
        await database.stop()
        numbers = [number for number, _ in left]
        assert left == right
        assert sorted(int(value) for (value,) in events) == numbers
        assert answered <= {*numbers}
    assert await intact(path) == []


async def intact(path: Path) -> list[str]:
    database = SqliteDatabase(path, floor_bytes=0, ballast_bytes=0)
    await database.start()
    found = await database.check()
    await database.stop()
    return found


async def test_twenty_times_killed_while_writing_nothing_answered_is_lost_or_half_there(tmp_path: Path) -> None:
    await check_after_crashes(tmp_path / "test.db", rounds=20, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_two_hundred_times_killed_while_writing_nothing_answered_is_lost_or_half_there(tmp_path: Path) -> None:
    await check_after_crashes(tmp_path / "test.db", rounds=200, seed=2)
