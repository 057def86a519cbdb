"""`./mainspring` at the root: what a start looks at to know whether anything must be installed."""

import subprocess
from pathlib import Path

from tests.needs import REPOSITORY


def test_what_a_build_leaves_behind_is_no_reason_to_install_again_and_a_changed_source_is(tmp_path: Path) -> None:
    script = (REPOSITORY / "mainspring").read_text()
    (inputs,) = [line for line in script.splitlines() if line.startswith("inputs() ")]
    for name in (
        "pyproject.toml",
        "mainspring",
        "locks/run.txt",
        "locks/build.txt",
        "locks/uv.txt",
        "web/src/page.tsx",
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)

    def stamp() -> str:
        command = ["sh", "-eu", "-c", f"want=run\n{inputs}\ninputs | cksum"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    before = stamp()
    for left in ("web/__pycache__/build_hook.cpython-311.pyc", "web/node_modules/react/index.js"):
        (tmp_path / left).parent.mkdir(parents=True)
        (tmp_path / left).write_text("built")
    assert stamp() == before
    (tmp_path / "web/src/page.tsx").write_text("changed")
    assert stamp() != before
