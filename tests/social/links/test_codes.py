"""Codes: the permutation is one, nothing collides, nothing rude comes out, and an alias cannot deceive."""

import string
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.social.links import codes


@given(st.binary(min_size=1, max_size=64), st.integers(2, 3000))
def test_a_permutation_gives_each_number_exactly_once(key: bytes, size: int) -> None:
    permute = codes.Permutation(key, size)
    assert sorted(permute(number) for number in range(size)) == list(range(size))


@given(st.binary(min_size=1, max_size=64), st.integers(0, 62**7 - 1))
def test_a_permutation_of_all_seven_letter_words_can_be_undone(key: bytes, number: int) -> None:
    permute = codes.Permutation(key, 62**7)
    assert permute.inverse(permute(number)) == number


def test_neighbouring_numbers_make_codes_that_do_not_look_alike() -> None:
    permute = codes.Permutation(b"key", 62**7)
    words = [codes.spell(permute(number), codes.ALPHABETS["base62"], 7) for number in range(1000)]
    assert len({word[0] for word in words}) == 62
    assert sum(a[:2] == b[:2] for a, b in pairwise(words)) < 5


def test_when_all_words_are_taken_it_says_so() -> None:
    with pytest.raises(ValueError, match="taken"):
        codes.Permutation(b"key", 10)(10)


@given(st.integers(0, 2**64), st.sampled_from(sorted(codes.ALPHABETS)))
def test_spelling_is_positional_and_can_be_read_back(number: int, name: str) -> None:
    alphabet = codes.ALPHABETS[name]
    value = 0
    for letter in codes.spell(number, alphabet, 7):
        value = value * len(alphabet) + alphabet.index(letter)
    assert value == number


@given(st.lists(st.integers(0, 10**9), max_size=5), st.sampled_from(sorted(codes.ALPHABETS)), st.integers(1, 9))
def test_many_are_spelt_as_each_is_alone(numbers: list[int], name: str, length: int) -> None:
    alphabet = codes.ALPHABETS[name]
    numbers = [number % len(alphabet) ** length for number in numbers]
    assert codes.spell_all(numbers, alphabet, length) == [codes.spell(number, alphabet, length) for number in numbers]


def test_alphabets_are_what_they_promise() -> None:
    assert len(set(codes.ALPHABETS["base62"])) == 62
    assert len(set(codes.ALPHABETS["base58"])) == 58 and not set("0OIl") & set(codes.ALPHABETS["base58"])
    assert codes.ALPHABETS["lower"] == codes.ALPHABETS["lower"].lower()


@given(st.text(), st.binary(), st.integers(0, 2**60), st.integers(0, 5))
def test_hashed_codes_follow_from_what_went_in(target: str, salt: bytes, at_us: int, attempt: int) -> None:
    first = codes.hashed(target.encode("utf-8", "replace").decode(), salt, at_us, attempt, codes.ALPHABETS["base62"])
    assert len(first) == 7 and set(first) <= set(string.ascii_letters + string.digits)
    again = codes.hashed(
        target.encode("utf-8", "replace").decode(), salt, at_us, attempt + 1, codes.ALPHABETS["base62"]
    )
    assert again != first


def test_blocked_and_reserved_words_are_skipped_however_they_are_written() -> None:
    words = ["abcdefg", "xA.cyzz", "xNaZiyz", "RaW", "api", "fine"]
    assert codes.clean(words, codes.blocker(["nazi", "a.c"])) == ["abcdefg", "fine"]


@pytest.mark.parametrize("alias", ["a", "Az09_-", "x" * 64, "docs/2026/spring"])
def test_plain_aliases_are_taken(alias: str) -> None:
    assert codes.alias_fault(alias, unicode=False, segments_max=3) is None


@pytest.mark.parametrize(
    "alias",
    [
        "",
        "x" * 65,
        "a b",
        "a/",
        "/a",
        "a//b",
        "a/b/c/d",
        "..",
        "a.b",
        "%2e",
        "rest",
        "API",
        "raw/x",
        "x/qr-code",
        "ä",
        "a\r\nb",
    ],
)
def test_other_aliases_are_refused(alias: str) -> None:
    assert codes.alias_fault(alias, unicode=False, segments_max=3)


@pytest.mark.parametrize("alias", ["größe", "привет", "日本語", "こんにちは世界", "한국어", "ελληνικά"])
def test_words_in_one_script_can_be_aliases_where_unicode_is_allowed(alias: str) -> None:
    assert codes.alias_fault(alias, unicode=True, segments_max=1) is None


@pytest.mark.parametrize("alias", ["pаypal", "аpple", "ｆｕｌｌ", "e\u0301", "a\u200db", "☃", "αpha", "x\u202ey"])
def test_homoglyphs_and_unsafe_letters_are_refused_even_there(alias: str) -> None:
    assert codes.alias_fault(alias, unicode=True, segments_max=1)
