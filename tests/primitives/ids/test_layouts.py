"""Layouts: the arithmetic of fields, and instants as ranges of ids."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.primitives.ids import LAYOUTS, MAINSPRING, Layout
from mainspring.primitives.ids.parsing import microseconds

some_layout = st.sampled_from(list(LAYOUTS.values()))


@given(some_layout, st.data())
def test_joining_and_splitting_are_inverse(layout: Layout, data: st.DataObject) -> None:
    parts = [data.draw(st.integers(0, most)) for most in (layout.tick_max, layout.worker_max, layout.sequence_max)]
    value = layout.join(*parts)
    assert list(layout.split(value)) == parts
    assert layout.holds(value) and value < 1 << layout.width


@given(some_layout, st.data())
def test_an_instant_is_exactly_the_ids_between_its_bounds(layout: Layout, data: st.DataObject) -> None:
    value = data.draw(st.integers(0, (1 << layout.time + layout.time_shift) - 1))
    at_us = layout.at_ms(value) * 1000 + data.draw(st.integers(0, layout.tick_ms * 1000 - 1))
    first, last = layout.first_at(at_us), layout.last_at(at_us)
    assert first <= value <= last
    assert last - first + 1 == 1 << layout.time_shift
    assert layout.at_ms(first) == layout.at_ms(last) == layout.at_ms(value)


def test_an_instant_before_the_epoch_holds_no_id_and_one_after_the_end_is_the_end() -> None:
    assert (MAINSPRING.first_at(0), MAINSPRING.last_at(0)) == (0, -1)
    assert MAINSPRING.last_at(1 << 62) == (1 << 63) - 1


def test_the_houses_layout_lasts_almost_seventy_years_and_stays_positive() -> None:
    last = MAINSPRING.join(MAINSPRING.tick_max, MAINSPRING.worker_max, MAINSPRING.sequence_max)
    assert last == (1 << 63) - 1
    assert 69.6 < (MAINSPRING.tick_max / 1000 / 86_400 / 365.2425) < 69.8
    assert MAINSPRING.epoch_ms * 1000 == microseconds(datetime(2025, 1, 1, tzinfo=UTC))


def test_a_javascript_number_holds_the_layout_made_for_it() -> None:
    layout = LAYOUTS["js53"]
    assert layout.join(layout.tick_max, layout.worker_max, layout.sequence_max) == (1 << 53) - 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"time": 42, "worker": 10, "sequence": 12},
        {"time": 0, "worker": 10, "sequence": 12},
        {"time": 41, "worker": -1, "sequence": 12},
        {"time": 41, "worker": 10, "sequence": 12, "tick_ms": 0},
        {"time": 41, "worker": 10, "sequence": 12, "width": 70},
        {"time": 41, "worker": 10, "sequence": 12, "epoch_ms": 99_999_999_999_999},
        {"time": 41, "worker": 10, "sequence": 12, "epoch_ms": -1},
    ],
)
def test_a_layout_that_cannot_be_is_refused_when_it_is_made(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        Layout(**{"epoch_ms": 1_735_689_600_000, **wrong})


def test_a_datetime_without_a_zone_is_no_instant() -> None:
    with pytest.raises(ValueError):
        microseconds(datetime(2025, 1, 1))
    assert microseconds(7) == 7
