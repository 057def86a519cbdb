"""Numbers as text: fixed lengths, the numbers' own order, and nothing read that was not written."""

import string
from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.primitives.ids import (
    NotAnId,
    base32hex,
    base58,
    base62,
    base62_short,
    check_letter,
    crockford,
    from_base32hex,
    from_base58,
    from_base62,
    from_crockford,
    with_check,
    without_check,
)
from mainspring.primitives.ids.texts import BASE62, from_decimal, from_hexadecimal, hexadecimal

numbers = st.integers(0, (1 << 64) - 1)
PAIRS = [
    (base62, from_base62, 11),
    (base58, from_base58, 11),
    (crockford, from_crockford, 13),
    (base32hex, from_base32hex, 13),
    (hexadecimal, from_hexadecimal, 16),
]
Write, Read = Callable[[int], str], Callable[[str], int]


@pytest.mark.parametrize(("write", "read", "length"), PAIRS)
@given(one=numbers, other=numbers)
def test_a_number_comes_back_and_texts_sort_as_numbers_do(
    write: Write, read: Read, length: int, one: int, other: int
) -> None:
    text = write(one)
    assert len(text) == length and read(text) == one
    assert (text < write(other)) == (one < other)


@given(numbers)
def test_the_short_form_and_the_decimal_come_back_too(one: int) -> None:
    assert from_base62(base62_short(one)) == one == from_decimal(str(one))
    assert base62_short(one) == BASE62.encode(one) and base62(one) == BASE62.encode(one, 11)


@pytest.mark.parametrize(("write", "read", "length"), PAIRS)
def test_zero_and_the_largest_number_are_written_and_the_next_is_not_read(
    write: Write, read: Read, length: int
) -> None:
    last = write((1 << 64) - 1)
    assert read(write(0)) == 0 and read(last) == (1 << 64) - 1
    letters = sorted({letter for n in range(62) for letter in write(n)[-1]})
    for place in range(length):
        for letter in letters:
            if letter > last[place]:
                with pytest.raises(NotAnId):
                    read(last[:place] + letter + last[place + 1 :])


@pytest.mark.parametrize("read", [read for _, read, _ in PAIRS] + [from_decimal])
@given(text=st.text(max_size=30))
def test_any_text_is_read_or_refused_and_never_anything_else(read: Read, text: str) -> None:
    try:
        assert 0 <= read(text) < 1 << 64
    except NotAnId:
        pass


@pytest.mark.parametrize("text", ["", "-1", "lYGhA16ahyg", "zzzzzzzzzzz", "000000000000", "0000 000000", "٣", "0_0"])
def test_what_base62_does_not_write_it_does_not_read(text: str) -> None:
    with pytest.raises(NotAnId):
        from_base62(text)


@pytest.mark.parametrize("number", [-1, 1 << 64, 1 << 80])
def test_a_number_outside_64_bits_is_not_wrapped(number: int) -> None:
    with pytest.raises(ValueError):
        base62(number)


def test_crockford_reads_what_people_mistake() -> None:
    assert from_crockford("O0oIiLl1") == from_crockford("00011111")
    assert from_crockford("0a3k-9zxv") == from_crockford("0A3K9ZXV")
    with pytest.raises(NotAnId):
        from_crockford("U")


def test_the_check_letter_is_the_standards() -> None:
    # The example of the Global Release Identifier, which uses ISO 7064 MOD 37,36.
    assert check_letter("A12425GABC1234002") == "M"


codes = st.text(string.digits + string.ascii_uppercase, min_size=1, max_size=20)


@given(codes, st.data())
def test_the_check_letter_finds_every_mistyped_letter(code: str, data: st.DataObject) -> None:
    checked = with_check(code)
    assert without_check(checked) == code == without_check(checked.lower()).upper()
    place = data.draw(st.integers(0, len(checked) - 1))
    letter = data.draw(st.sampled_from(string.digits + string.ascii_uppercase))
    mistyped = checked[:place] + letter + checked[place + 1 :]
    if mistyped != checked:
        with pytest.raises(NotAnId):
            without_check(mistyped)


def test_the_check_letter_finds_all_but_one_in_630_swaps_of_neighbours() -> None:
    # The first letter brings the sum into each of its 36 states, so these are all the cases that there are.
    letters = string.digits + string.ascii_uppercase
    found = missed = 0
    for first, one, other in product(letters, repeat=3):
        if one < other:
            found += check_letter(first + one + other) != check_letter(first + other + one)
            missed += check_letter(first + one + other) == check_letter(first + other + one)
    assert (found, missed) == (22_644, 36)


@pytest.mark.parametrize("text", ["", "A", "ä1", "A B", "A-1"])
def test_a_code_without_letters_has_no_check_letter(text: str) -> None:
    with pytest.raises(NotAnId):
        without_check(text)
