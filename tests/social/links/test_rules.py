"""Redirect rules: the first that holds decides, and the explanation never disagrees with the decision."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.social.links.rules import Condition, Rule, Variant, Visitor, decide, explain, fault, holds, targets_of

NOON = 1_767_225_600_000_000 + 12 * 3_600_000_000

CONDITIONS = st.sampled_from(
    [
        Condition("device", "mobile"),
        Condition("device", "ios"),
        Condition("os", "windows"),
        Condition("browser", "Firefox"),
        Condition("language", "de"),
        Condition("query", "1", "a"),
        Condition("query-any-value", None, "a"),
        Condition("query-valueless", None, "a"),
        Condition("country", "at"),
        Condition("city", "Wien"),
        Condition("ip", "10.1.0.0/16"),
        Condition("ip", "192.0.*.*"),
        Condition("referrer", "example.org"),
        Condition("before", "2026-01-01T12:00:01Z"),
        Condition("after", "2026-01-01T12:00:01Z"),
        Condition("hours", "22:00-06:00"),
    ]
)
RULES = st.lists(
    st.builds(
        lambda when, number: Rule(tuple(when), f"https://x/{number}"),
        st.lists(CONDITIONS, max_size=3),
        st.integers(0, 9),
    ),
    max_size=6,
).map(tuple)
VISITORS = st.builds(
    Visitor,
    device=st.sampled_from(["", "mobile", "tablet", "desktop"]),
    os=st.sampled_from(["", "ios", "windows"]),
    browser=st.sampled_from(["", "firefox"]),
    languages=st.sampled_from([(), ("de-at", "en"), ("en",)]),
    query=st.sampled_from([(), (("a", "1"),), (("a", ""),), (("a", "2"), ("b", "1"))]),
    country=st.sampled_from(["", "AT"]),
    city=st.sampled_from(["", "wien"]),
    address=st.sampled_from(["", "10.1.2.3", "192.0.2.1", "2001:db8::1"]),
    referrer=st.sampled_from(["", "example.org", "a.example.org", "badexample.org"]),
    at_us=st.integers(NOON - 86_400_000_000, NOON + 86_400_000_000),
    key=st.binary(max_size=8),
)


@given(RULES, VISITORS)
def test_the_first_rule_that_holds_decides_and_the_explanation_agrees(
    rules: tuple[Rule, ...], visitor: Visitor
) -> None:
    assert fault(rules) is None
    holding = [place for place, rule in enumerate(rules) if all(holds(one, visitor) for one in rule.when)]
    choice = decide("https://x/default", rules, visitor)
    assert choice.rule == (holding[0] if holding else None)
    assert choice.target == (rules[holding[0]].target if holding else "https://x/default")
    trials = explain(rules, visitor)
    assert [trial.rule for trial in trials if trial.fires] == holding[:1]
    assert [trial.rule for trial in trials if trial.holds] == holding


SPLIT = (Rule((), None, (Variant("https://x/a", 3), Variant("https://x/b", 1))),)


@given(st.binary(max_size=20), st.binary(max_size=80))
def test_a_visitor_always_gets_the_same_variant(key: bytes, salt: bytes) -> None:
    visitor = Visitor(key=key)
    assert decide("", SPLIT, visitor, salt) == decide("", SPLIT, visitor, salt)


def test_variants_are_drawn_by_their_weights_and_apart_for_each_link() -> None:
    visitors = [Visitor(key=b"%d" % number) for number in range(4000)]
    drawn = [decide("", SPLIT, visitor, b"one").target for visitor in visitors]
    assert 2850 < Counter(drawn)["https://x/a"] < 3150
    assert drawn != [decide("", SPLIT, visitor, b"two").target for visitor in visitors]


@pytest.mark.parametrize(
    ("condition", "visitor"),
    [
        (Condition("device", "mobile"), Visitor(device="tablet")),
        (Condition("device", "android"), Visitor(device="mobile", os="android")),
        (Condition("language", "de"), Visitor(languages=("de-at",))),
        (Condition("referrer", "example.org"), Visitor(referrer="www.example.org")),
        (Condition("ip", "2001:db8::/32"), Visitor(address="2001:db8::5")),
        (Condition("ip", "10.*.*.*"), Visitor(address="10.9.8.7")),
        (Condition("hours", "09:00-17:00"), Visitor(at_us=NOON)),
        (Condition("hours", "22:00-13:00"), Visitor(at_us=NOON)),
        (Condition("before", "2026-01-01T13:30:00+01:00"), Visitor(at_us=NOON)),
        (Condition("after", "2026-01-01T12:00:00"), Visitor(at_us=NOON)),
    ],
)
def test_conditions_hold_for(condition: Condition, visitor: Visitor) -> None:
    assert fault((Rule((condition,), "https://x/"),)) is None
    assert holds(condition, visitor)


@pytest.mark.parametrize(
    ("condition", "visitor"),
    [
        (Condition("language", "de"), Visitor(languages=("den",))),
        (Condition("referrer", "example.org"), Visitor(referrer="badexample.org")),
        (Condition("ip", "10.0.0.0/8"), Visitor(address="2001:db8::5")),
        (Condition("hours", "09:00-12:00"), Visitor(at_us=NOON)),
    ],
)
def test_conditions_do_not_hold_for(condition: Condition, visitor: Visitor) -> None:
    assert not holds(condition, visitor)


@pytest.mark.parametrize(
    "rule",
    [
        Rule(),
        Rule((), "https://x/", (Variant("https://y/"),)),
        Rule((), None, (Variant("https://y/", 0),)),
        Rule((Condition("ip", "10.0.0.0/99"),), "https://x/"),
        Rule((Condition("ip", "no"),), "https://x/"),
        Rule((Condition("before", "yesterday"),), "https://x/"),
        Rule((Condition("hours", "9-17"),), "https://x/"),
        Rule((Condition("country", "AUT"),), "https://x/"),
        Rule((Condition("device", "toaster"),), "https://x/"),
        Rule((Condition("query", "1"),), "https://x/"),
        Rule((Condition("language"),), "https://x/"),
        Rule((Condition("city", "x" * 501),), "https://x/"),
        Rule(tuple([Condition("language", "de")] * 21), "https://x/"),
    ],
)
def test_rules_that_cannot_be_used_are_found(rule: Rule) -> None:
    assert fault((rule,)) is not None
    assert fault((rule,) * 51) is not None


def test_every_target_of_the_rules_is_known() -> None:
    rules = (Rule((), "https://a/"), *SPLIT)
    assert targets_of(rules) == ["https://a/", "https://x/a", "https://x/b"]
