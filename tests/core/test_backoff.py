"""How waits grow, and that they stay within their bounds."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.backoff import Backoff

SECONDS = st.floats(0.001, 100)


@given(first_s=SECONDS, factor=st.floats(1, 1000), failures=st.integers(1, 40), seed=st.integers())
def test_each_wait_is_within_a_ceiling_that_doubles_to_the_limit(
    first_s: float, factor: float, failures: int, seed: int
) -> None:
    backoff = Backoff(first_s, first_s * factor, Random(seed))
    for n in range(failures):
        ceiling_s = min(first_s * 2**n, first_s * factor)
        assert 0.25 * ceiling_s * 0.999 <= backoff.next_s() <= ceiling_s * 1.001
    assert backoff.failures == failures


def test_two_that_failed_together_do_not_come_back_together() -> None:
    one, two = Backoff(random=Random(1)), Backoff(random=Random(2))
    assert [one.next_s() for _ in range(5)] != [two.next_s() for _ in range(5)]


def test_after_a_success_the_waits_are_short_again() -> None:
    backoff = Backoff(0.05, 30.0, Random(0))
    for _ in range(20):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 0.05
    assert backoff.failures == 1


def test_it_may_fail_for_ever() -> None:
    backoff = Backoff(0.05, 30.0, Random(0))
    backoff.failures = 10**6
    assert 7.5 <= backoff.next_s() <= 30


@pytest.mark.parametrize(("first_s", "most_s"), [(0, 1), (-1, 1), (2, 1), (float("nan"), 1)])
def test_bounds_that_make_no_sense_are_refused(first_s: float, most_s: float) -> None:
    with pytest.raises(ValueError, match="backoff"):
        Backoff(first_s, most_s)
