"""The store under everything that befalls it, over many seeds; and that its simulation sees what it is there to see."""

from collections.abc import Callable
from typing import Any

import pytest

from mainspring.core.manifest import manifests
from mainspring.core.ports import Connection
from mainspring.core.simulator import campaign
from mainspring.storage.objects import references, simulation
from mainspring.storage.objects.conditions import WriteIf
from mainspring.storage.objects.errors import ObjectsError
from mainspring.storage.objects.numbering import Numbers
from mainspring.storage.objects.simulated_files import SimulatedFiles

SIMULATION = "mainspring.storage.objects.simulation:run"


def test_the_promises_hold_in_ten_histories() -> None:
    outcome = campaign(simulation.run, range(10), workers=1)
    assert not outcome.failures


@pytest.mark.slow
def test_the_promises_hold_in_two_thousand_histories() -> None:
    outcome = campaign(SIMULATION, range(1000, 3000), workers=2)
    assert (outcome.seeds, outcome.failures) == (2000, ())


def test_a_seed_shows_the_same_events_again() -> None:
    worlds = []
    for _ in range(2):
        world = simulation.World(7, SimulatedFiles)
        world.live(simulation._busy_life)
        worlds.append((world.now_s, world.random.random(), [str(one) for one in world.notes.history.operations]))
    assert worlds[0] == worlds[1]


def test_the_simulation_is_known_by_its_name() -> None:
    assert ("objects", SIMULATION) in {(one.name, one.call) for one in manifests()["objects"].simulations}


class LyingFiles(SimulatedFiles):
    """A disk that says that it has synced, and has not."""

    def sync(self, fd: int) -> None:
        self._to_change(fd)


def caught(run: Callable[[int], object]) -> str:
    """What the first of some seeds that breaks a promise says."""
    for seed in range(40):
        try:
            run(seed)
        except (AssertionError, ObjectsError) as error:
            return str(error)
    return ""


def test_a_disk_that_lies_about_its_syncs_is_found_out() -> None:
    assert caught(lambda seed: simulation.run(seed, LyingFiles))


def test_a_condition_that_is_not_looked_at_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WriteIf, "check", lambda *_: None)
    assert "is not linearizable" in caught(simulation.run)


def test_numbers_that_follow_a_clock_back_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Numbers, "go_on", lambda *_: None)
    assert "is not linearizable" in caught(simulation.run)


def test_a_segment_that_nobody_noted_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def note_nothing(connection: Connection, *_: Any) -> None:
        return None

    monkeypatch.setattr(references, "begin_segment", note_nothing)
    assert "holds an orphan" in caught(simulation.run)
