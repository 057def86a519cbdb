"""Killed between any two steps, the relay has still taken every committed event to the log once, in order."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from mainspring.core.clock import SystemClock
from mainspring.core.crash import VARIABLE
from mainspring.storage.log.service import Log
from tests.fixtures_database import embedded_database
from tests.waiting import PATIENCE_S

CHILD = Path(__file__).with_name("relay_child.py")
POINTS = [
    "core.relay.appended:1",
    "core.relay.appended:3",
    "core.relay.moved:1",
    "core.relay.moved:4",
    "log.append.written:2",
    "log.append.synced:5",
]


def relay(folder: Path, round: int, point: str = "") -> tuple[int, list[bytes]]:
    """Runs the child; gives how it ended and which events it knew to be committed."""
    environment = os.environ | {VARIABLE: point, "PYTHONPATH": str(CHILD.parents[3])}
    done = subprocess.run(
        [sys.executable, str(CHILD), str(folder), str(round)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE_S,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, [line.replace(" ", ".").encode() for line in done.stdout.splitlines()]


@pytest.mark.parametrize("point", POINTS)
async def test_every_event_is_relayed_once_though_the_process_is_killed(tmp_path: Path, point: str) -> None:
    died, known = relay(tmp_path, 0, point)
    assert died == -signal.SIGKILL, f"{point} was not reached"
    _, later = relay(tmp_path, 1)
    async with embedded_database(tmp_path) as database:
        log = Log(tmp_path / "log", SystemClock(), database, random=Random(1))
        await log.start()
        found = []
        while records := await log.fetch("orders", 0, len(found)):
            found += [record.value for record in records]
        await log.stop()
    assert len(set(found)) == len(found), "each once"
    # Of what the killed process had not been told, one event may have been committed.
    first = [value for value in found if value.startswith(b"0.")]
    assert first[: len(known)] == known
    assert len(first) <= len(known) + 1
    assert found[len(first) :] == later
