"""kill -9 at every step: what was acknowledged reads back, what was not is there whole or not at all, and no orphan stays."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mainspring.storage.objects
from mainspring.core.crash import VARIABLE
from tests.needs import REPOSITORY
from tests.storage.objects.conftest import bytes_of, keys_of
from tests.storage.objects.consistency import assert_consistent
from tests.storage.objects.crash_child import open_store

SOURCES = Path(mainspring.storage.objects.__file__).parent
POINTS = sorted(
    {point for path in SOURCES.glob("*.py") for point in re.findall(r'crash_point\("([\w.]+)"\)', path.read_text())}
)
Contents = dict[str, str | None]


def run_until_killed(folder: Path, point: str, nth: int) -> tuple[Contents, Contents]:
    """What had been acknowledged, and what the step that was killed was about to make."""
    environment = {**os.environ, VARIABLE: f"{point}:{nth}"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.storage.objects.crash_child", str(folder), str(nth)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL, f"{point} was not reached {nth} times: {done.stderr.decode()[-2000:]}"
    lines = done.stdout.decode().splitlines()
    acknowledged: Contents = {}
    doing: Contents = {}
    for line in lines:
        if line == "done":
            acknowledged.update(doing)
            doing = {}
        elif line != "ready":
            doing = json.loads(line)
    return acknowledged, doing


async def assert_survived(folder: Path, acknowledged: Contents, doing: Contents) -> None:
    database, objects = await open_store(folder)
    try:
        there: Contents = {}
        for key in await keys_of(objects):
            there[key] = hashlib.sha256(await bytes_of(objects, key)).hexdigest()
        for key in acknowledged.keys() | doing.keys() | there.keys():
            allowed = {acknowledged.get(key), doing.get(key, acknowledged.get(key))}
            assert there.get(key) in allowed, f"{key} is {there.get(key)}, which is none of {allowed}"
        if {"one", "two", "medium"} <= doing.keys():
            committed = {key: there.get(key) == doing[key] for key in doing}
            assert len(set(committed.values())) == 1, f"a commit of many keys is there by half: {committed}"
        await assert_consistent(objects)
        await objects.upkeep.heal()
        for key, digest in there.items():
            assert hashlib.sha256(await bytes_of(objects, key)).hexdigest() == digest
        await objects.put("box", "after", b"after")
        assert await bytes_of(objects, "after") == b"after"
    finally:
        await objects.stop()
        await database.stop()


def test_there_is_a_point_at_each_step() -> None:
    steps = (
        "shards.written",
        "shards.synced",
        "put",
        "part",
        "complete",
        "commit",
        "delete",
        "reclaim",
        "compact",
        "heal",
    )
    for step in steps:
        assert any(point.startswith(f"objects.{step}") for point in POINTS), step


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_a_step_nothing_acknowledged_is_lost_and_nothing_is_left_over(
    tmp_path: Path, point: str
) -> None:
    await assert_survived(tmp_path, *run_until_killed(tmp_path, point, 2))


@pytest.mark.slow
@pytest.mark.parametrize("nth", [1, 3, 4, 5])
@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_another_time_at_a_step_the_same_holds(tmp_path: Path, point: str, nth: int) -> None:
    await assert_survived(tmp_path, *run_until_killed(tmp_path, point, nth))
