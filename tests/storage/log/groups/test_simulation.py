"""Groups in the simulator: late requests, dying members, a broker that crashes on a torn disk, a clock that jumps."""

from functools import partial

import pytest

from mainspring.core.simulator import Failure, campaign
from mainspring.storage.log.group_simulation import BREAKS, run

SIMULATION = "mainspring.storage.log.group_simulation:run"

# Where each wrong rule was first seen to fail; should the world change, the search below finds another.
CAUGHT_AT = {"unfenced": 1, "unmoved": 6, "lingering": 6, "impatient": 18, "unordered": 10}


def test_groups_keep_their_promises_in_simulated_histories() -> None:
    outcome = campaign(SIMULATION, range(4), workers=1)
    assert not outcome.failures, outcome.failures[0]


@pytest.mark.slow
def test_groups_keep_their_promises_in_many_simulated_histories() -> None:
    outcome = campaign(SIMULATION, range(4, 300))
    assert not outcome.failures, outcome.failures[0]


@pytest.mark.parametrize("breaks", BREAKS)
def test_a_plausible_wrong_rule_of_groups_is_caught_and_its_seed_replays(breaks: str) -> None:
    failure = first_failure(breaks)
    with pytest.raises(AssertionError) as again:
        run(failure.seed, breaks)
    assert str(again.value) == failure.message


def first_failure(breaks: str) -> Failure:
    known = campaign(partial(run, breaks=breaks), [CAUGHT_AT[breaks]], workers=1)
    outcome = known if known.failures else campaign(partial(run, breaks=breaks), range(200))
    assert outcome.failures, f"{breaks} was not caught"
    return outcome.failures[0]


def test_an_unknown_way_to_break_groups_is_refused() -> None:
    with pytest.raises(ValueError):
        run(1, "nonsense")
