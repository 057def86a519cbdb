"""Kafka's small text files: what is written is read, and whatever a crash made of one is either right or refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.storage.log.checkpoints import format_epochs, format_offsets, parse_epochs, parse_offsets

OFFSETS = st.integers(0, 1 << 62)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z.-]{1,9}-[0-9]{1,4}", fullmatch=True), OFFSETS, max_size=6))
def test_offsets_come_back(offsets):
    assert parse_offsets(format_offsets(offsets.items()).decode()) == offsets


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99), OFFSETS), max_size=5))
def test_epochs_come_back(epochs):
    assert list(parse_epochs(format_epochs(epochs).decode())) == epochs


@pytest.mark.parametrize("whole", [format_epochs([(0, 0), (3, 700)]), format_offsets([("a-b-0", 5), ("c-11", 700)])])
def test_a_file_that_was_torn_is_refused_and_nothing_else_is_raised(whole):
    for at in range(len(whole)):
        for torn in (whole[:at], whole[:at] + bytes(len(whole) - at), b"\xff" * at):
            for parse in (parse_epochs, parse_offsets):
                with pytest.raises(ValueError):
                    parse(torn.decode())
