"""Ids in the simulator: no two minters meet under skewed clocks, crashes, pauses and a bad network; wrong rules are caught."""

from functools import partial

import pytest

from mainspring.core.simulator import Failure, Violation, campaign
from mainspring.primitives.ids.simulation import BREAKS, run, world

RUN = "mainspring.primitives.ids.simulation:run"

# Where each wrong rule was first seen to fail; should the world change, the search below finds another.
CAUGHT_AT = {"trusting_clocks": 99, "unfenced": 23, "lowering": 64, "unsynced": 4, "optimistic": 335}


def test_no_millisecond_of_a_worker_is_minted_by_two_over_200_seeds() -> None:
    outcome = campaign(RUN, range(200))
    assert outcome.failures == ()
    assert outcome.seeds == 200


@pytest.mark.slow
def test_no_millisecond_of_a_worker_is_minted_by_two_over_10_000_seeds() -> None:
    outcome = campaign(RUN, range(10_000))
    assert outcome.failures == ()
    assert outcome.seeds == 10_000


@pytest.mark.parametrize("breaks", BREAKS)
def test_a_plausible_wrong_rule_is_caught_and_the_seed_replays(breaks: str) -> None:
    failure = first_failure(breaks)
    with pytest.raises(Violation) as again:
        run(failure.seed, breaks)
    assert str(again.value) == failure.message
    assert "both minted in" in again.value.what


def first_failure(breaks: str) -> Failure:
    known = campaign(partial(run, breaks=breaks), [CAUGHT_AT[breaks]], workers=1)
    outcome = known if known.failures else campaign(partial(run, breaks=breaks), range(400))
    assert outcome.failures, f"{breaks} was not caught"
    return outcome.failures[0]


def test_the_simulated_world_is_one_in_which_much_is_minted_and_much_goes_wrong() -> None:
    simulation, watch = world(4)
    simulation.run(120)
    assert watch.minted > 500_000
    assert watch.refused > 100
    assert simulation.network.lost > 10
    assert sum(node.starts > 1 for node in simulation.nodes.values()) > 0


def test_an_unknown_way_to_break_it_is_refused() -> None:
    with pytest.raises(ValueError):
        run(1, "nonsense")
