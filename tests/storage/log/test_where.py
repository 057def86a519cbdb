"""The filter of records: what it says of a value, and that any text is a condition or a problem."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.storage.log.records import Read
from mainspring.storage.log.where import DEPTH_MAX, Filter, InvalidFilter

ORDER = {
    "status": "paid",
    "n": 4,
    "share": 0.5,
    "ok": True,
    "none": None,
    "user": {"first name": "Ann", "and": 1},
    "items": [{"price": 7}, {"price": 120}],
}


def record(value: Any = ORDER, **more: Any) -> Read:
    given = {"offset": 9, "timestamp_ms": 1_000, "key": b"user-1", "headers": [("trace", b"abc")], **more}
    return Read(value=value if isinstance(value, bytes | None) else msgspec.json.encode(value), **given)


@pytest.mark.parametrize(
    "text",
    [
        'status = "paid"',
        'status == "paid"',
        'status != "open"',
        "n > 3 and n < 5 and n >= 4 and n <= 4",
        "share = 0.5",
        "n = 4.0",
        "ok",
        "ok = true",
        "not none",
        "none = null",
        "nowhere = null",
        "nowhere.at.all = null",
        "not nowhere",
        "items[1].price > 100",
        'user."first name" = "Ann"',
        'user["first name"] ~ "nn"',
        'user."and" = 1',
        "items[9].price = null",
        '$key = "user-1"',
        '$key ~ "user" and $value ~ "paid"',
        "$offset = 9 and $partition = 2 and $timestamp >= 1000",
        '$header.trace = "abc"',
        "$header.none = null",
        'status = "open" or n = 4 and ok',
        '(status = "open" or n = 4) and ok',
        'not (status = "open" or n = 5)',
        "not not ok",
    ],
)
def test_what_is_true_of_a_record(text: str) -> None:
    assert Filter(text)(record(), 2)
    assert not Filter(f"not ({text})")(record(), 2)


@pytest.mark.parametrize(
    "text",
    ['n = "4"', "ok = 1", "n > true_", 'n ~ "4"', "status > 3", 'n > "3"', "ok > 0", "items.price = 7", "user[0]"],
)
def test_values_of_different_kinds_are_never_equal_and_have_no_order(text: str) -> None:
    if "true_" in text:
        with pytest.raises(InvalidFilter):
            Filter(text)
    else:
        assert not Filter(text)(record(), 0)


@pytest.mark.parametrize("value", [b"\xff\x00", b"not json", b"", None, b"[" * 100_000])
def test_a_value_that_is_no_json_holds_nothing(value: bytes | None) -> None:
    assert not Filter("status")(record(value), 0)
    assert Filter("status = null and $offset = 9")(record(value), 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=",
        "status =",
        "= 3",
        "(ok",
        "ok)",
        "ok and",
        "and ok",
        "ok ok",
        "a.",
        "a[",
        "a[x]",
        "a[-1]",
        "a[1.5]",
        "a ~ 3",
        "a > null",
        'a = "open',
        r'a = "\x"',
        "a = b",
        "$nothing",
        "$header",
        "$header.3",
        "a = 1 or or b",
        "a ; b",
        "(" * (DEPTH_MAX + 1) + "a" + ")" * (DEPTH_MAX + 1),
        "not " * (DEPTH_MAX + 1) + "a",
        "a" * 1_001,
    ],
)
def test_what_is_no_condition_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InvalidFilter) as refused:
        Filter(text)
    assert 0 <= refused.value.more["at"] <= len(text) and refused.value.more["pointer"] == "/query/where"


@settings(max_examples=50)
@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(["a", "and", "or", "not", "(", ")", "=", "<", "~", '"x"', "1", ".", "[", "]", "$key", "null"])
    ).map(" ".join)
)
def test_any_text_is_a_condition_or_a_problem(text: str) -> None:
    try:
        whole = Filter(text)
    except InvalidFilter:
        return
    assert whole(record(), 0) in (True, False)


@settings(max_examples=50)
@given(
    st.recursive(
        st.tuples(st.sampled_from("nm"), st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), st.integers(-3, 3)),
        lambda inner: st.tuples(inner, st.sampled_from(["and", "or"]), inner) | st.tuples(st.just("not"), inner),
        max_leaves=8,
    ),
    st.integers(-3, 3),
    st.integers(-3, 3),
)
def test_conditions_mean_what_they_mean_in_python(tree: Any, n: int, m: int) -> None:
    def write(tree: Any, equals: str) -> str:
        if tree[0] == "not":
            return f"(not {write(tree[1], equals)})"
        if isinstance(tree[2], int):
            return f"{tree[0]} {equals if tree[1] == '=' else tree[1]} {tree[2]}"
        return f"({write(tree[0], equals)} {tree[1]} {write(tree[2], equals)})"

    expected = eval(write(tree, "=="), {}, {"n": n, "m": m})
    assert Filter(write(tree, "="))(record({"n": n, "m": m}), 0) == expected
