"""How often somebody may try a password."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.accounts.attempts import EITHER_PER_MINUTE, KEYS_MAX, PAIR_PER_MINUTE, Attempts, network
from mainspring.core.accounts.model import TooManyAttempts
from mainspring.core.clock import VirtualClock


async def passes(attempts: Attempts, name: str, address: str) -> bool:
    try:
        await attempts.take(name, address)
    except TooManyAttempts:
        return False
    return True


async def test_a_refusal_says_how_long_to_wait() -> None:
    clock = VirtualClock()
    attempts = Attempts(clock)
    for _ in range(PAIR_PER_MINUTE):
        await attempts.take("lea", "192.0.2.1")
    await clock.advance(17.5)
    with pytest.raises(TooManyAttempts) as refused:
        await attempts.take("lea", "192.0.2.1")
    assert (refused.value.status, refused.value.headers) == (429, (("retry-after", "43"),))


@given(st.lists(st.integers(0, 40), max_size=60))
async def test_no_minute_wherever_it_begins_sees_more_than_five_attempts(waits_s: list[int]) -> None:
    clock = VirtualClock()
    attempts, let_through, now_s = Attempts(clock), list[int](), 0
    for wait_s in waits_s:
        await clock.advance(wait_s)
        now_s += wait_s
        allowed = sum(now_s - at_s < 60 for at_s in let_through) < PAIR_PER_MINUTE
        assert await passes(attempts, "lea", "192.0.2.1") == allowed
        if allowed:
            let_through.append(now_s)


async def test_a_name_tried_from_everywhere_and_an_address_trying_everybody_are_bounded() -> None:
    attempts = Attempts(VirtualClock())
    assert sum([await passes(attempts, "lea", f"192.0.2.{number}") for number in range(200)]) == EITHER_PER_MINUTE
    assert sum([await passes(attempts, f"user{number}", "198.51.100.1") for number in range(200)]) == EITHER_PER_MINUTE
    assert await passes(attempts, "kim", "203.0.113.1")


@pytest.mark.parametrize("address", ["192.0.2.1", ""])
async def test_the_right_password_gives_the_attempts_back(address: str) -> None:
    attempts = Attempts(VirtualClock())
    for _ in range(3 * EITHER_PER_MINUTE):
        assert await passes(attempts, "lea", address)
        attempts.forgive("lea", address)
    for _ in range(PAIR_PER_MINUTE):
        assert await passes(attempts, "lea", address)
    assert not await passes(attempts, "lea", address)


async def test_the_right_password_forgives_nothing_that_was_tried_from_elsewhere() -> None:
    attempts = Attempts(VirtualClock())
    for number in range(EITHER_PER_MINUTE - 1):
        await attempts.take("lea", f"192.0.2.{number}")
    for _ in range(3):
        await attempts.take("lea", "198.51.100.1")
        attempts.forgive("lea", "198.51.100.1")
    await attempts.take("lea", "203.0.113.1")
    assert not await passes(attempts, "lea", "203.0.113.2")


async def test_the_limiter_from_above_is_asked_too() -> None:
    asked: list[str] = []

    async def allow(key: str) -> bool:
        asked.append(key)
        return len(asked) < 3

    attempts = Attempts(VirtualClock(), allow)
    assert [await passes(attempts, "lea", "192.0.2.1") for _ in range(4)] == [True, True, False, False]
    assert asked[0] == "lea|192.0.2.1"


async def test_memory_is_bounded_and_forgets_what_was_used_longest_ago() -> None:
    attempts = Attempts(VirtualClock())
    for number in range(KEYS_MAX):
        await attempts.take(f"user{number}", f"address{number}")
    assert len(attempts._times) == KEYS_MAX


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::9", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::1", True),
        ("", "", True),
    ],
)
def test_one_persons_addresses_are_one_place(first: str, second: str, same: bool) -> None:
    assert (network(first) == network(second)) is same
