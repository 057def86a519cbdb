"""The sieve against a plain model, and its order of eviction against the paper's example."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mainspring.core.cache.sieve import NEVER, Sieve

COST_MAX = 10


class AnyCalls(RuleBasedStateMachine):
    """Whatever is called: never over the bound, never a wrong or expired value, links and sums right."""

    def __init__(self) -> None:
        super().__init__()
        self.sieve: Sieve[int, int] = Sieve(COST_MAX)
        self.model: dict[int, tuple[int, int, int]] = {}
        self.now = 0

    @rule(key=st.integers(0, 8), value=st.integers(), cost=st.integers(0, 12), lifetime=st.integers(1, 9) | st.none())
    def put(self, key: int, value: int, cost: int, lifetime: int | None) -> None:
        deadline = NEVER if lifetime is None else self.now + lifetime
        kept = self.sieve.put(key, value, cost, deadline=deadline, now=self.now)
        assert kept == (cost <= COST_MAX)
        self.model.pop(key, None)
        if kept:
            self.model[key] = (value, cost, deadline)
            assert self.sieve.get(key, self.now) == value, "what was just stored is there"

    @rule(key=st.integers(0, 8))
    def get(self, key: int) -> None:
        found = self.sieve.get(key, self.now)
        if found is not None:
            value, _, deadline = self.model[key]
            assert found == value and deadline > self.now

    @rule(key=st.integers(0, 8))
    def pop(self, key: int) -> None:
        found = self.sieve.pop(key)
        if found is not None:
            assert found == self.model[key][0]
        self.model.pop(key, None)
        assert self.sieve.get(key, self.now) is None

    @rule(passed=st.integers(1, 5))
    def wait(self, passed: int) -> None:
        self.now += passed

    @rule()
    def clear(self) -> None:
        self.sieve.clear()
        self.model.clear()

    @invariant()
    def the_bound_holds(self) -> None:
        held = list(self.sieve)
        assert len(held) == len(set(held)) == len(self.sieve)
        assert self.sieve.cost == sum(self.model[key][1] for key in held) <= COST_MAX


TestAnyCalls = AnyCalls.TestCase
TestAnyCalls.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_what_was_asked_for_stays_in_its_place_and_what_was_not_goes() -> None:
    sieve: Sieve[str, int] = Sieve(3)
    for key in "abc":
        sieve.put(key, 0)
    sieve.get("a")
    sieve.put("d", 0)
    assert list(sieve) == ["a", "c", "d"], "the hand spared a, whose mark it took, and evicted b"
    sieve.put("e", 0)
    assert list(sieve) == ["a", "d", "e"], "the hand goes on from where it stood, not from the oldest"


def test_one_pass_over_many_keys_does_not_displace_what_is_used() -> None:
    sieve: Sieve[int, int] = Sieve(100)
    for key in range(50):
        sieve.put(key, key)
    for scanned in range(1_000, 3_000):
        for popular in range(0, 50, 10):
            sieve.get(popular)
        sieve.put(scanned, scanned)
    assert all(sieve.get(popular) == popular for popular in range(0, 50, 10))
    assert len(sieve) == 100


@given(st.lists(st.integers(0, 30), max_size=300))
def test_when_all_have_been_used_room_is_still_made(keys: list[int]) -> None:
    sieve: Sieve[int, int] = Sieve(5)
    for key in keys:
        sieve.put(key, key)
        for held in list(sieve):
            assert sieve.get(held) == held
        assert len(sieve) <= 5


def test_an_expired_entry_makes_room_before_one_that_is_merely_unused() -> None:
    sieve: Sieve[str, int] = Sieve(2)
    sieve.put("expired", 0, deadline=5)
    sieve.get("expired")
    sieve.put("fresh", 0)
    sieve.put("new", 0, now=5)
    assert list(sieve) == ["fresh", "new"]
