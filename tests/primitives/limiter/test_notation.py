"""The text form of policies: what it means, that it survives a round trip, and that what it is not is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.primitives.limiter import BadPolicy, Penalty, Policy
from mainspring.primitives.limiter.buckets import LeakyBucket, TokenBucket
from mainspring.primitives.limiter.concurrency import Concurrency
from mainspring.primitives.limiter.notation import format_policy, parse
from mainspring.primitives.limiter.plans import Plan, policy
from mainspring.primitives.limiter.policies import AnyRule, Clause
from mainspring.primitives.limiter.quota import Quota
from mainspring.primitives.limiter.windows import FixedWindow, SlidingLog, SlidingWindow
from tests.primitives.limiter import histories as draw


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("100/minute", SlidingWindow(100, 60)),
        ("100 per minute", SlidingWindow(100, 60)),
        ("100 / 5 minutes", SlidingWindow(100, 300)),
        ("10/s burst 20", TokenBucket(10, 20)),
        ("10/s", TokenBucket(10)),
        ("10/minute burst 20", TokenBucket(10, 20, 60)),
        ("token 10/minute", TokenBucket(10, per=60)),
        ("5000/day Europe/Berlin", Quota(5000, "day", "Europe/Berlin")),
        ("5000/day", SlidingWindow(5000, 86_400)),
        ("quota 5000/day", Quota(5000, "day")),
        ("5000/month", Quota(5000, "month")),
        ("fixed 100/hour", FixedWindow(100, 3600)),
        ("log 5/minute", SlidingLog(5, 60)),
        ("sliding 5/500ms", SlidingWindow(5, 0.5)),
        ("leaky 10/s queue 20 delay 5", LeakyBucket(10, 20, 1, 5)),
        ("10/s queue 20", LeakyBucket(10, 20)),
        ("concurrency 5 ttl 30s", Concurrency(5, 30)),
        ("concurrency 5", Concurrency(5, 60)),
    ],
)
def test_a_text_means_what_the_readme_says(text: str, rule: AnyRule) -> None:
    assert parse(text) == Policy(((Clause(rule),),))


def test_limits_levels_shadow_penalty_and_failure_in_one_text() -> None:
    text = "10/s burst 20; 1000/hour shadow; penalty 5/minute for 10s to 2h > 5000/day Europe/Berlin; fail closed"
    assert parse(text) == Policy(
        (
            (
                Clause(TokenBucket(10, 20)),
                Clause(SlidingWindow(1000, 3600), shadow=True),
                Clause(Penalty(5, 60, 10, 7200)),
            ),
            (Clause(Quota(5000, "day", "Europe/Berlin")),),
        ),
        "closed",
    )


rules = draw.rules | st.builds(
    Penalty, st.integers(1, 9), st.sampled_from([1.0, 60.0, 90.0]), st.sampled_from([1.0, 60.0]), st.just(3600.0)
)
levels = st.lists(st.builds(Clause, rules, st.booleans()), min_size=1, max_size=2).map(tuple)


def _plain(clauses: tuple[Clause, ...]) -> tuple[Clause, ...]:
    """A penalty is never in shadow: it has no other effect."""
    return tuple(Clause(one.rule, one.shadow and not isinstance(one.rule, Penalty)) for one in clauses)


@draw.steady
@given(st.lists(levels.map(_plain), min_size=1, max_size=3).map(tuple), st.sampled_from(["open", "closed", "local"]))
def test_every_policy_survives_being_written_and_read(levels: tuple[tuple[Clause, ...], ...], fail: str) -> None:
    try:
        written = Policy(levels, fail)  # type: ignore[arg-type]
    except BadPolicy:
        return
    assert parse(format_policy(written)) == written


@pytest.mark.parametrize(
    "text",
    [
        "",
        ";",
        "100",
        "100/",
        "/minute",
        "0/minute",
        "-1/minute",
        "1.5/minute",
        "100/fortnight",
        "100/minute burst",
        "100/minute burst x",
        "100/minute burst 0 burst 1",
        "fixed 100/minute burst 5",
        "magic 100/minute",
        "100/hour Europe/Berlin",
        "100/2days Europe/Berlin",
        "100/day Europe/Bielefeld",
        "100/day ../../etc/passwd",
        "100/day /etc/localtime",
        "100/day Europe",
        "leaky 10/s queue 5 delay 6",
        "log 10001/minute",
        "concurrency 0",
        "concurrency 5 ttl soon",
        "100/0s",
        "100/101days",
        "9999999999/minute",
        "1000000007/day burst 1000000000",
        "fail open",
        "100/minute; fail sideways",
        "penalty 5/minute",
        "100/minute; penalty 5/minute for 2h to 1h",
        "100/minute >",
        " > ".join(["1/s"] * 9),
        "; ".join(["1/s"] * 17),
        "1/minute" + " " * 1000,
        "1" * 900 + "/minute",
        "100/minute\x00",
    ],
)
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(BadPolicy):
        parse(text)


@draw.steady
@given(st.text(alphabet="0123456789/;> abcdefghijklmnopqrstuvwxyzE-_.\n\x00é", max_size=60))
def test_any_text_is_a_policy_or_a_problem(text: str) -> None:
    try:
        parse(text)
    except BadPolicy:
        return


@pytest.mark.parametrize(
    "make",
    [
        lambda: TokenBucket(0),
        lambda: TokenBucket(1, per=float("nan")),
        lambda: TokenBucket(1, per=float("inf")),
        lambda: TokenBucket(1.5),  # type: ignore[arg-type]
        lambda: SlidingWindow(True, 60),
        lambda: FixedWindow(10, 0),
        lambda: Quota(10, "hour"),  # type: ignore[arg-type]
        lambda: Penalty(0, 60),
        lambda: policy([]),
        lambda: policy(["1/s > 2/s", "3/s"]),
    ],
)
def test_rules_that_cannot_be_kept_are_refused_when_they_are_made(make: object) -> None:
    with pytest.raises(BadPolicy):
        make()  # type: ignore[operator]


def test_limits_are_named_after_the_policy_and_their_text() -> None:
    assert [limit.name for limit in Plan("api", parse("100/minute")).limits] == ["api"]
    plan = Plan("api", parse("10/s; 1000/hour; penalty 3/minute > 10/s"))
    assert [limit.name for limit in plan.limits] == ["api 10/s", "api 1000/hour", "api penalty", "api 10/s #2"]
