"""Killed between any two steps, a request with an idempotency key is carried out once, by whichever try gets through."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from mainspring.core.clock import SystemClock
from mainspring.core.crash import VARIABLE
from mainspring.storage.log.browsing import Place, Start, browse
from mainspring.storage.log.service import Log
from tests.storage.log.once_child import RECORDS
from tests.waiting import PATIENCE_S

CHILD = Path(__file__).with_name("once_child.py")


def attempt(folder: Path, point: str = "") -> tuple[int, str]:
    """Runs the child; gives how it ended and what it said."""
    environment = os.environ | {VARIABLE: point, "PYTHONPATH": str(CHILD.parents[3])}
    done = subprocess.run(
        [sys.executable, str(CHILD), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE_S,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize("point", ["log.once.planned", "log.once.appending", "log.append.written", "log.once.appended"])
async def test_a_request_is_carried_out_once_though_its_first_try_was_killed(tmp_path: Path, point: str) -> None:
    assert attempt(tmp_path, point) == (-signal.SIGKILL, ""), f"{point} was not reached"
    died, told = attempt(tmp_path)
    assert died == 0 and (told.endswith("True\n") or point != "log.once.appended")
    log = Log(tmp_path / "log", SystemClock(), random=Random(1))
    await log.start()
    topic = log.engine.topics["orders"]
    leaf = await browse(topic, Place(0, None), len(topic.partitions) - 1, Start(), 100)
    assert sorted(read.value or b"" for _, read in leaf.found) == sorted(new.value or b"" for new in RECORDS)
    await log.stop()
