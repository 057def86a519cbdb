"""The header fields that tell a client how it stands (draft-ietf-httpapi-ratelimit-headers-11, RFC 9110 Retry-After).

    RateLimit-Policy: "api";q=100;w=60
    RateLimit: "api";r=42;t=17

`t` is whole seconds, rounded up: until the refused cost could pass, else until the whole limit is there again. After a
refusal `Retry-After` equals the `t` of the limit that refuses longest. Limits in shadow and penalties that do not bite are
not shown.
"""

from collections.abc import Sequence

from mainspring.primitives.limiter.decide import Limit
from mainspring.primitives.limiter.decision import Decision
from mainspring.primitives.limiter.model import Rule, Verdict
from mainspring.primitives.limiter.penalties import Penalty

Headers = tuple[tuple[str, str], ...]


def headers(decision: Decision, *, partition_key: bytes = b"") -> Headers:
    """`RateLimit-Policy`, `RateLimit` and, after a refusal, `Retry-After`."""
    parts = shown(decision)
    fields = []
    if parts:
        fields.append(("ratelimit-policy", ", ".join(policy_item(limit, partition_key) for limit, _ in parts)))
        fields.append(("ratelimit", ", ".join(state_item(limit.name, limit.rule, verdict) for limit, verdict in parts)))
    if not decision.allowed:
        fields.append(("retry-after", str(retry_after_s(decision))))
    return tuple(fields)


def legacy_headers(decision: Decision) -> Headers:
    """The three fields that came before: `X-RateLimit-Limit`, `-Remaining` and `-Reset`, which is in seconds from now."""
    if decision.deciding is None:
        return ()
    limit, verdict = decision.deciding
    return (
        ("x-ratelimit-limit", str(limit.rule.most)),
        ("x-ratelimit-remaining", str(verdict.remaining)),
        ("x-ratelimit-reset", str(_seconds_up(verdict.retry_ns or verdict.reset_ns))),
    )


def retry_after_s(decision: Decision) -> int:
    """`Retry-After`: at least a second, because 0 would invite a client to try again at once."""
    return max(1, _seconds_up(round(decision.retry_after * 1e9)))


def shown(decision: Decision) -> list[tuple[Limit, Verdict]]:
    seen: dict[str, tuple[Limit, Verdict]] = {}
    for limit, verdict in decision.parts:
        if limit.shadow or (isinstance(limit.rule, Penalty) and verdict.allowed):
            continue
        # Of several keys under one limit the one that stands worse is told, for a list may not name a policy twice.
        if limit.name not in seen or _badness(verdict) > _badness(seen[limit.name][1]):
            seen[limit.name] = (limit, verdict)
    return list(seen.values())


def _badness(verdict: Verdict) -> tuple[int, int]:
    return verdict.retry_ns, -verdict.remaining


def policy_item(limit: Limit, partition_key: bytes = b"") -> str:
    from base64 import b64encode

    item = f"{_string(limit.name)};q={limit.rule.most}"
    if limit.rule.span_ns and limit.rule.span_ns % 10**9 == 0:
        item += f";w={limit.rule.span_ns // 10**9}"
    if limit.rule.kind == "concurrency":
        item += ';qu="concurrent-requests"'
    return f"{item};pk=:{b64encode(partition_key).decode()}:" if partition_key else item


def state_item(name: str, rule: Rule, verdict: Verdict) -> str:
    seconds = max(1, _seconds_up(verdict.retry_ns)) if verdict.retry_ns else _seconds_up(verdict.reset_ns)
    return f"{_string(name)};r={0 if isinstance(rule, Penalty) else verdict.remaining};t={seconds}"


def _string(text: str) -> str:
    """A Structured Fields String (RFC 9651, section 3.3.3)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _seconds_up(ns: int) -> int:
    return -(-ns // 10**9)


def encoded(fields: Sequence[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """As ASGI wants them."""
    return [(name.encode(), value.encode()) for name, value in fields]
