"""What the door keeps beside the records: whole before or after a change, whatever happens in between."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mainspring.storage.log.kafka.cluster_state import ClusterFile, ClusterState
from tests.fixtures_server import environment

CHILD = """
import asyncio, sys
from pathlib import Path
from mainspring.storage.log.kafka.cluster_state import ClusterFile

async def main():
    file = ClusterFile(Path(sys.argv[1]))
    await file.change(lambda state: state.features.update(level=int(sys.argv[2])))

asyncio.run(main())
"""


def change(path: Path, level: int, **variables: str) -> int:
    """Changes the state in a process of its own; gives how that ended."""
    command = [sys.executable, "-c", CHILD, str(path), str(level)]
    return subprocess.run(command, env=environment() | variables, timeout=120, check=False).returncode


def test_a_crash_before_the_file_is_in_place_leaves_the_state_before(tmp_path: Path) -> None:
    path = tmp_path / "kafka.json"
    assert change(path, 1) == 0
    assert change(path, 2, MAINSPRING_CRASH_AT="log.cluster.written:1") == -signal.SIGKILL
    assert ClusterFile(path).current.features == {"level": 1}
    assert change(path, 3) == 0
    assert ClusterFile(path).current.features == {"level": 3}


async def test_a_change_that_fails_changes_nothing_and_watchers_see_only_what_is_durable(tmp_path: Path) -> None:
    file = ClusterFile(tmp_path / "kafka.json")
    seen: list[dict[str, int]] = []
    file.watch(lambda state: seen.append(dict(state.features)))
    await file.change(lambda state: state.features.update(a=1))

    def fail(state: ClusterState) -> None:
        state.features["a"] = 2
        raise KeyError("no")

    with pytest.raises(KeyError):
        await file.change(fail)
    await file.change(lambda state: state.features.update(b=3))
    assert seen == [{}, {"a": 1}, {"a": 1, "b": 3}]
    assert ClusterFile(tmp_path / "kafka.json").current.features == {"a": 1, "b": 3}
    assert os.listdir(tmp_path) == ["kafka.json"]
