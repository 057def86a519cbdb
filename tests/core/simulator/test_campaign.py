"""Campaigns: every seed once, progress while they run, an early end at a failure that can be replayed."""

import pytest

from mainspring.core.simulator import Violation, campaign

from . import programs


@pytest.mark.parametrize("workers", [1, 2])
def test_every_seed_runs_once_and_progress_is_told(workers: int) -> None:
    told: list[tuple[int, int, int]] = []
    outcome = campaign(programs.succeeds, range(50), workers, lambda *progress: told.append(progress))
    assert (outcome.seeds, outcome.failures) == (50, ())
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1] == (50, 50, 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_seed_is_named_and_ends_the_campaign(workers: int) -> None:
    outcome = campaign("tests.core.simulator.programs:fails_at_seven", range(2_000), workers)
    assert [failure.seed for failure in outcome.failures] == [7]
    assert "seven is out of luck" in outcome.failures[0].message
    assert outcome.seeds < 2_000


def test_a_simulation_that_raises_anything_has_failed() -> None:
    outcome = campaign(programs.raises_at_three, range(10), 1)
    assert outcome.failures[0].seed == 3 and "three raises" in outcome.failures[0].message


def test_a_worker_that_dies_is_a_failure_and_not_a_wait_for_ever() -> None:
    outcome = campaign(programs.dies_at_five, range(10), 2)
    assert "died" in outcome.failures[0].message


def test_a_seed_that_failed_in_a_worker_fails_here_with_the_same_words() -> None:
    outcome = campaign(programs.journal_without_sync, range(100), 2)
    failure = outcome.failures[0]
    with pytest.raises(Violation) as here:
        programs.journal_without_sync(failure.seed)
    assert str(here.value) == failure.message
