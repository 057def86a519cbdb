"""What a test needs from outside Python's own packages: there, or skipped with the reason; in CI missing is a failure."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"


def missing(reason: str) -> None:
    """Skips the running test (or module) for `reason`; fails where `MAINSPRING_REQUIRE_ALL=1` says that all must be there."""
    if os.environ.get("MAINSPRING_REQUIRE_ALL") == "1":
        pytest.fail(f"required here, but missing: {reason}", pytrace=False)
    pytest.skip(reason, allow_module_level=True)


def need_program(*names: str) -> str:
    """The path of the first of these programs that is installed (`chromium`, `nginx`, …)."""
    for name in names:
        for folder in (None, "/usr/sbin", "/usr/local/sbin"):
            path = shutil.which(name, path=folder) if folder else shutil.which(name)
            if path:
                return path
    missing(f"needs {' or '.join(names)} (a Debian package has it)")
    raise AssertionError("unreachable")


def need_module(name: str) -> None:
    """Goes on only where the Python module `name` can be imported."""
    if importlib.util.find_spec(name) is None:
        missing(f"needs the Python package that brings {name}")


def need_data(path: str) -> Path:
    """The path of a file or folder of the real data kept beside the repository, which is no part of the project.

    Always a skip where it is missing, in CI as well: the data is not ours to ship.
    """
    found = SHARED / "data" / path
    if not found.exists():
        pytest.skip(f"needs the data set {path}", allow_module_level=True)
    return found
