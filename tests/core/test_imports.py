"""Modules come whole, from whatever threads and from whichever side they are imported."""

import contextlib
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import _bootstrap, import_module  # type: ignore[attr-defined]
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from typing import Any

import pytest

from mainspring.core.imports import imported

NAME, WITHIN = "comes_from_two_sides", "comes_from_two_sides.within"


class Late(SourceFileLoader):
    """Begins the package only once another thread waits for it, having come for the module in it; as long as one may come."""

    def create_module(self, spec: Any) -> None:
        tries = 100
        while tries and WITHIN not in _bootstrap._module_locks:
            tries -= 1
            time.sleep(0.001)
        time.sleep(0.01)


class Finder:
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        found = PathFinder.find_spec(name, path, target) if name == NAME else None
        if found is not None:
            found.loader = Late(name, found.origin or "")
        return found


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that imports what is in it."""
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "__init__.py").write_text(f"import {WITHIN}\n")
    (tmp_path / NAME / "within.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    yield
    for name in (NAME, WITHIN):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("package")
def test_two_threads_that_come_from_two_sides_both_get_their_module() -> None:
    with ThreadPoolExecutor(2) as threads:
        package, within = threads.map(imported, (NAME, WITHIN))
    assert package.within is within and within.answer == 42


@pytest.mark.usefixtures("package")
def test_an_import_statement_that_comes_from_the_other_side_ends_no_import_here() -> None:
    """Python tells one of the two of the deadlock, which may be the statement: that one is not ours to mend."""

    def by_statement() -> None:
        with contextlib.suppress(RuntimeError):
            import_module(WITHIN)

    with ThreadPoolExecutor(2) as threads:
        package = threads.submit(imported, NAME)
        threads.submit(by_statement)
        assert package.result().within.answer == 42


def test_what_a_module_raises_is_raised_and_tried_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "fails_at_first.py"
    module.write_text("raise RuntimeError('not yet')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match="not yet"):
        imported("fails_at_first")
    module.write_text("answer = 42  # longer, so that no cached code is taken for it\n")
    assert imported("fails_at_first").answer == 42
    del sys.modules["fails_at_first"]
