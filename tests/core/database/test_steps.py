"""Functions whose module is imported when one of them is first run."""

import sys
import threading
from pathlib import Path

import pytest

from mainspring.core.database.steps import Step, Steps
from mainspring.core.ports import Database

MODULE = """
import threading
from mainspring.core.database import read_committed
from mainspring.core.database.plans import Written

IMPORTED_BY = threading.current_thread()
ISOLATION = Written("SELECT current_setting('transaction_isolation')")

def next_one(connection, number):
    return number + 1

@read_committed
def isolation(connection):
    return "" if connection.dialect == "sqlite" else connection.execute(ISOLATION).scalar()
"""


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    (tmp_path / "imported_late.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "imported_late", raising=False)
    return Steps("imported_late")


async def test_a_step_is_imported_in_a_thread_and_from_then_on_the_function_itself(
    database: Database, steps: Steps
) -> None:

    assert isinstance(steps.next_one, Step) and "imported_late" not in sys.modules
    assert await database.read(steps.next_one, 1) == 2
    assert sys.modules["imported_late"].IMPORTED_BY is not threading.main_thread()
    assert steps.next_one is sys.modules["imported_late"].next_one
    assert await database.write(steps.next_one, 2) == 3


async def test_a_step_runs_at_the_isolation_that_its_function_declares(database: Database, steps: Steps) -> None:
    expected = "" if database.dialect == "sqlite" else "read committed"
    assert await database.write(steps.isolation) == expected


async def test_a_function_that_calls_a_step_imports_it_there(database: Database, steps: Steps) -> None:
    step = steps.next_one
    assert await database.write(lambda connection: step(connection, 3)) == 4


async def test_a_name_that_its_module_does_not_have_is_an_error_of_whoever_runs_it(
    database: Database, steps: Steps
) -> None:
    with pytest.raises(AttributeError, match="no_such"):
        await database.read(steps.no_such)
