"""A crash point kills where the environment says so, and only there."""

import signal
import subprocess
import sys

from mainspring.core.crash import VARIABLE

PROGRAM = (
    "from mainspring.core.crash import crash_point\nfor n in range(5):\n print(n, flush=True)\n crash_point('here')"
)


def run(**environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=False)


def test_the_process_dies_the_nth_time_it_comes_to_the_point() -> None:
    died = run(**{VARIABLE: "here:3"})
    assert died.returncode == -signal.SIGKILL and died.stdout.split() == ["0", "1", "2"]
    assert run(**{VARIABLE: "here"}).stdout.split() == ["0"]


def test_a_point_that_is_not_named_costs_nothing() -> None:
    assert run().returncode == 0 and run(**{VARIABLE: "there"}).returncode == 0
