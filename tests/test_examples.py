"""The programs in `examples/` run as they are, those that keep much twice on one folder, and say what they promise."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures_server import environment

EXAMPLES = Path(__file__).parent.parent / "examples"
SAYS = {
    "limits": "attempt 6 is too much",
    "links": "leads to https://www.python.org/",
    "orders": "10 orders checked",
    "pictures": "b'<svg>grey</svg>' b'<svg>blue</svg>'",
}


def test_every_example_is_run_here() -> None:
    assert {one.stem for one in EXAMPLES.glob("*.py")} == SAYS.keys()


@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs_and_runs_again(name: str, tmp_path: Path) -> None:
    for _ in range(2 if name in ("orders", "pictures") else 1):
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / f"{name}.py"), str(tmp_path / "data")],
            capture_output=True,
            text=True,
            timeout=120,
            env=environment(),
        )
        assert done.returncode == 0, done.stderr
        assert SAYS[name] in done.stdout
