"""Opaque ids: a permutation that nobody without the key can undo, with keys that can be changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.primitives.ids import NotAnId, Opaque

KEY, OTHER = b"k" * 32, b"another key"
hideable = st.integers(0, (1 << 62) - 1)


@given(hideable, hideable)
def test_what_is_hidden_is_shown_again_and_no_two_numbers_hide_alike(one: int, other: int) -> None:
    opaque = Opaque(KEY)
    assert opaque.show(opaque.hide(one)) == one
    assert (opaque.hide(one) == opaque.hide(other)) == (one == other)
    assert opaque.hide(one) < 1 << 62


@given(st.integers(0, (1 << 62) - 1))
def test_every_value_of_a_known_key_shows_some_number(value: int) -> None:
    opaque = Opaque(KEY)
    assert opaque.hide(opaque.show(value)) == value


def test_values_of_an_older_key_are_read_after_a_rotation() -> None:
    before = Opaque(KEY)
    after = Opaque(OTHER, number=1, older={0: KEY})
    assert after.show(before.hide(42)) == 42 == after.show(after.hide(42))
    assert after.hide(42) >> 62 == 1
    with pytest.raises(NotAnId):
        before.show(after.hide(42))


def test_neighbours_share_nothing_and_another_key_shows_another_number() -> None:
    opaque = Opaque(KEY)
    flipped = [bin(opaque.hide(n) ^ opaque.hide(n + 1)).count("1") for n in range(1_000)]
    assert 28 < sum(flipped) / len(flipped) < 34
    assert Opaque(OTHER).show(opaque.hide(42)) != 42


def test_the_permutation_is_fixed_for_ever() -> None:
    # Stored and published values depend on it.
    pinned = [3907111164172014190, 1657844725971187703, 604159127816386988]
    assert [Opaque(KEY).hide(n) for n in (0, 1, 1 << 61)] == pinned


@pytest.mark.parametrize("number", [-1, 1 << 62])
def test_a_number_outside_62_bits_is_not_hidden(number: int) -> None:
    with pytest.raises(ValueError):
        Opaque(KEY).hide(number)


@pytest.mark.parametrize("value", [-1, 1 << 62, 1 << 64, 1 << 70])
def test_a_value_of_no_known_key_is_refused(value: int) -> None:
    with pytest.raises(NotAnId):
        Opaque(KEY).show(value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Opaque(b""),
        lambda: Opaque(b"k" * 33),
        lambda: Opaque(KEY, number=4),
        lambda: Opaque(KEY, older={0: OTHER}),
        lambda: Opaque(KEY, older={5: OTHER}),
    ],
)
def test_keys_outside_the_bounds_are_refused(make: object) -> None:
    with pytest.raises(ValueError):
        make()  # type: ignore[operator]
