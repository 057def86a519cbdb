"""Header fields: what an outside parser of Structured Fields reads out of them."""

import http_sf
import pytest

from mainspring.core.clock import VirtualClock
from mainspring.primitives.limiter import MemoryLimiter
from mainspring.primitives.limiter.headers import headers, legacy_headers


def parsed(value: str) -> list[tuple[str, dict[str, object]]]:
    return [(item, dict(parameters)) for item, parameters in http_sf.parse(value.encode(), tltype="list")]


@pytest.mark.parametrize(
    ("text", "policy", "state"),
    [
        ("100/minute", {"q": 100, "w": 60}, {"r": 97, "t": 105}),
        ("fixed 100/minute", {"q": 100, "w": 60}, {"r": 97, "t": 45}),
        ("log 100/minute", {"q": 100, "w": 60}, {"r": 97, "t": 60}),
        ("10/s burst 100", {"q": 100, "w": 1}, {"r": 97, "t": 1}),
        ("100/500ms", {"q": 100}, {"r": 97, "t": 1}),
        ("100/day UTC", {"q": 100, "w": 86400}, {"r": 97, "t": 86400 - 15}),
        ("concurrency 100 ttl 30s", {"q": 100, "qu": "concurrent-requests"}, {"r": 97, "t": 30}),
    ],
)
def test_fields_are_lists_of_named_policies_with_integer_parameters(
    text: str, policy: dict[str, object], state: dict[str, object]
) -> None:
    limiter = MemoryLimiter(VirtualClock(1_767_225_615 * 10**9, mono_ns=615 * 10**9), api=text)
    fields = dict(headers(limiter.hit("api", "user", 3)))
    assert parsed(fields["ratelimit-policy"]) == [("api", policy)]
    assert parsed(fields["ratelimit"]) == [("api", state)]
    assert "retry-after" not in fields


def test_after_a_refusal_retry_after_equals_t_of_the_limit_that_refuses_longest() -> None:
    limiter = MemoryLimiter(VirtualClock(mono_ns=10**9), api="fixed 2/minute; fixed 5/hour")
    for _ in range(2):
        limiter.hit("api", "user")
    refused = limiter.hit("api", "user")
    fields = dict(headers(refused))
    assert parsed(fields["ratelimit"]) == [
        ("api fixed 2/minute", {"r": 0, "t": 59}),
        ("api fixed 5/hour", {"r": 3, "t": 3599}),
    ]
    assert fields["retry-after"] == "59"
    assert refused.exceeded().body() == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "The quota of this caller is spent",
        "status": 429,
        "detail": "api fixed 2/minute: try again in 59 s",
        "violated-policies": ["api fixed 2/minute"],
    }


def test_a_wait_of_less_than_a_second_is_still_one() -> None:
    limiter = MemoryLimiter(VirtualClock(mono_ns=10**9), api="100/s burst 1")
    limiter.hit("api", "user")
    fields = dict(headers(limiter.hit("api", "user")))
    assert fields["retry-after"] == "1"
    assert parsed(fields["ratelimit"]) == [("api", {"r": 0, "t": 1})]


def test_a_policy_is_named_once_for_several_keys_and_tells_of_the_one_that_stands_worse() -> None:
    limiter = MemoryLimiter(VirtualClock(mono_ns=10**9), api="5/minute")
    limiter.hit("api", "tenant", 3)
    fields = dict(headers(limiter.hit("api", ["user", "tenant"])))
    assert [(name, state["r"]) for name, state in parsed(fields["ratelimit"])] == [("api", 1)]


def test_shadow_is_not_shown_and_a_penalty_only_when_it_bites() -> None:
    limiter = MemoryLimiter(VirtualClock(mono_ns=10**9), api="9/minute; 1/hour shadow; penalty 1/minute")
    fields = dict(headers(limiter.hit("api", "user", 9)))
    assert [name for name, _ in parsed(fields["ratelimit"])] == ["api 9/minute"]
    fields = dict(headers(limiter.hit("api", "user")))
    assert parsed(fields["ratelimit"])[1] == ("api penalty", {"r": 0, "t": 60})


def test_a_partition_key_is_bytes() -> None:
    limiter = MemoryLimiter(VirtualClock(mono_ns=10**9), api="5/minute")
    fields = dict(headers(limiter.hit("api", "user"), partition_key=b"\x00user"))
    assert parsed(fields["ratelimit-policy"]) == [("api", {"q": 5, "w": 60, "pk": b"\x00user"})]


def test_the_fields_of_before_the_draft() -> None:
    limiter = MemoryLimiter(VirtualClock(mono_ns=10**9), api="fixed 2/minute")
    limiter.hit("api", "user", 2)
    assert legacy_headers(limiter.hit("api", "user")) == (
        ("x-ratelimit-limit", "2"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", "59"),
    )
