"""The text form in which people write policies.

    100/minute                     a sliding window
    10/s burst 20                  a token bucket
    5000/day Europe/Berlin         a calendar quota
    10/s; 1000/hour; 5000/month    all of them, for the same key
    10/s > 100/s > 5000/s          a hierarchy: user, then tenant, then everyone; one key for each level

A word before the amount names another algorithm (`fixed 100/minute`, `log 5/minute`, `leaky 10/s queue 20 delay 5`,
`token 100/minute`, `concurrency 5 ttl 30s`); `shadow` after a limit makes it count without refusing; `penalty 5/minute for
60s to 1h` blocks who is refused too often; `fail open|closed|local` says what happens while the store is away.
"""

import re
from typing import Literal

from mainspring.primitives.limiter.buckets import LeakyBucket, TokenBucket
from mainspring.primitives.limiter.concurrency import Concurrency
from mainspring.primitives.limiter.model import BadPolicy
from mainspring.primitives.limiter.penalties import Penalty
from mainspring.primitives.limiter.policies import AnyRule, Clause, Fail, Policy
from mainspring.primitives.limiter.quota import Quota
from mainspring.primitives.limiter.windows import FixedWindow, SlidingLog, SlidingWindow

TEXT_LETTERS_MAX = 1000

_UNITS_US = {
    **dict.fromkeys(("us", "microseconds"), 1),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1_000),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1_000_000),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60_000_000),
    **dict.fromkeys(("h", "hour", "hours"), 3_600_000_000),
    **dict.fromkeys(("d", "day", "days"), 86_400_000_000),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86_400_000_000),
}
_CALENDAR: dict[str, Literal["day", "week", "month", "year"]] = {
    **dict.fromkeys(("d", "day", "days"), "day"),
    **dict.fromkeys(("w", "week", "weeks"), "week"),
    **dict.fromkeys(("mo", "month", "months"), "month"),
    **dict.fromkeys(("y", "year", "years"), "year"),
}
_RATE = re.compile(
    r"(?:(?P<kind>[a-z]+) +)?(?P<n>[0-9]+) *(?:/|per ) *(?P<k>[0-9]*) *(?P<unit>[a-z]+)(?P<rest>(?: +\S+)*)"
)
_SLOTS = re.compile(r"concurrency +(?P<n>[0-9]+)(?: +ttl +(?P<ttl>[0-9]+ *[a-z]+))?(?P<rest>(?: +\S+)*)")
_PENALTY = re.compile(
    r"penalty +(?P<n>[0-9]+) *(?:/|per ) *(?P<within>[0-9]* *[a-z]+)"
    r"(?: +for +(?P<first>[0-9]+ *[a-z]+))?(?: +to +(?P<longest>[0-9]+ *[a-z]+))?"
)
_KINDS = ("token", "leaky", "fixed", "sliding", "log", "quota")


def parse(text: str) -> Policy:
    """Reads the text form. Raises `BadPolicy` with the part that is not understood."""
    if len(text) > TEXT_LETTERS_MAX:
        raise BadPolicy(f"a policy is at most {TEXT_LETTERS_MAX} letters long")
    fail: Fail = "local"
    levels = []
    for level in text.split(">"):
        clauses = []
        for part in filter(None, (one.strip() for one in level.split(";"))):
            if part.startswith("fail "):
                fail = _fail(part[5:].strip())
            else:
                clauses.append(_clause(part))
        levels.append(tuple(clauses))
    return Policy(tuple(levels), fail)


def _fail(word: str) -> Fail:
    if word not in ("open", "closed", "local"):
        raise BadPolicy(f"“fail {word[:40]}”: a policy fails open, closed or local")
    return word  # type: ignore[return-value]


def _clause(part: str) -> Clause:
    if found := _PENALTY.fullmatch(part):
        first, longest = found["first"] or "60s", found["longest"] or "1h"
        return Clause(Penalty(int(found["n"]), _seconds(found["within"]), _seconds(first), _seconds(longest)))
    if found := _SLOTS.fullmatch(part):
        shadow = _only_shadow(part, found["rest"].split())
        return Clause(Concurrency(int(found["n"]), _seconds(found["ttl"] or "60s")), shadow)
    found = _RATE.fullmatch(part)
    if not found:
        raise BadPolicy(f"“{part[:60]}” is not a limit; write for instance 100/minute or 10/s burst 20")
    return _rate(part, found)


def _rate(part: str, found: re.Match[str]) -> Clause:
    kind, amount, times, unit = found["kind"], int(found["n"]), int(found["k"] or 1), found["unit"]
    words = found["rest"].split()
    numbers, zone, shadow = {}, None, False
    while words:
        word = words.pop(0)
        if word in ("burst", "queue", "delay") and words and words[0].isdecimal() and word not in numbers:
            numbers[word] = int(words.pop(0))
        elif word == "shadow" and not shadow:
            shadow = True
        elif zone is None and word[0].isupper():
            zone = word
        else:
            raise BadPolicy(f"“{part[:60]}”: “{word[:40]}” is not understood here")
    if kind is None:
        kind = _usual_kind(unit, numbers, zone)
    if kind not in _KINDS:
        raise BadPolicy(f"“{part[:60]}”: an algorithm is one of {', '.join(_KINDS)} or concurrency, not “{kind[:40]}”")
    allowed = {"token": {"burst"}, "leaky": {"queue", "delay"}}.get(kind, set())
    if extra := set(numbers) - allowed:
        raise BadPolicy(f"“{part[:60]}”: {kind} has no {extra.pop()}")
    if kind == "quota":
        if unit not in _CALENDAR or times != 1:
            raise BadPolicy(f"“{part[:60]}”: a calendar quota is per day, week, month or year")
        return Clause(Quota(amount, _CALENDAR[unit], zone or "UTC"), shadow)
    if zone is not None:
        raise BadPolicy(f"“{part[:60]}”: only a quota per day, week, month or year has a time zone")
    return Clause(_timed(kind, amount, _seconds(f"{times} {unit}"), numbers), shadow)


def _usual_kind(unit: str, numbers: dict[str, int], zone: str | None) -> str:
    if "burst" in numbers:
        return "token"
    if "queue" in numbers:
        return "leaky"
    if zone is not None or (unit in _CALENDAR and unit not in _UNITS_US):
        return "quota"
    return "sliding" if _UNITS_US.get(unit, 0) >= 60_000_000 else "token"


def _timed(kind: str, amount: int, per: float, numbers: dict[str, int]) -> AnyRule:
    match kind:
        case "token":
            return TokenBucket(amount, numbers.get("burst", 0), per)
        case "leaky":
            return LeakyBucket(amount, numbers.get("queue", 0), per, numbers.get("delay", 0))
        case "fixed":
            return FixedWindow(amount, per)
        case "log":
            return SlidingLog(amount, per)
        case _:
            return SlidingWindow(amount, per)


def _only_shadow(part: str, words: list[str]) -> bool:
    if words not in ([], ["shadow"]):
        raise BadPolicy(f"“{part[:60]}”: “{words[0][:40]}” is not understood here")
    return bool(words)


def _seconds(text: str) -> float:
    amount = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = text[len(amount) :].strip()
    if unit not in _UNITS_US or len(amount) > 12:
        raise BadPolicy(f"“{text[:40]}”: a time is in ms, seconds, minutes, hours, days or weeks")
    return int(amount or 1) * _UNITS_US[unit] / 1_000_000


def format_policy(policy: Policy) -> str:
    """The text form that `parse` reads back as the same policy."""
    text = " > ".join("; ".join(format_clause(clause) for clause in level) for level in policy.levels)
    return text if policy.fail == "local" else f"{text}; fail {policy.fail}"


def format_clause(clause: Clause) -> str:
    return _format_rule(clause.rule) + (" shadow" if clause.shadow else "")


def _format_rule(rule: AnyRule) -> str:
    match rule:
        case TokenBucket():
            # A burst of its own says that it is a token bucket; below a minute nothing need say so.
            if rule.burst:
                return f"{rule.rate}/{_per(rule.per)} burst {rule.burst}"
            return f"token {rule.rate}/{_per(rule.per)}" if _is_minutes(rule.per) else f"{rule.rate}/{_per(rule.per)}"
        case LeakyBucket():
            delay = f" delay {rule.delay}" if rule.delay else ""
            return f"leaky {rule.rate}/{_per(rule.per)} queue {rule.queue}{delay}"
        case FixedWindow():
            return f"fixed {rule.limit}/{_per(rule.per)}"
        case SlidingLog():
            return f"log {rule.limit}/{_per(rule.per)}"
        case Concurrency():
            return f"concurrency {rule.limit} ttl {_duration(rule.ttl)}"
        case Quota():
            return f"{rule.limit}/{rule.unit} {rule.zone}"
        case Penalty():
            first, longest = _duration(rule.first), _duration(rule.longest)
            return f"penalty {rule.denials}/{_per(rule.within)} for {first} to {longest}"
        case SlidingWindow():
            return (
                f"{rule.limit}/{_per(rule.per)}" if _is_minutes(rule.per) else f"sliding {rule.limit}/{_per(rule.per)}"
            )


_WORDS = ((7 * 86_400, "week"), (86_400, "day"), (3600, "hour"), (60, "minute"), (1, "s"))


def _per(seconds: float) -> str:
    for unit_s, word in _WORDS:
        if seconds % unit_s == 0:
            times = int(seconds // unit_s)
            return word if times == 1 else f"{times}{word if word == 's' else word + 's'}"
    return f"{round(seconds * 1000)}ms" if round(seconds * 1_000_000) % 1000 == 0 else f"{round(seconds * 1_000_000)}us"


def _is_minutes(seconds: float) -> bool:
    return seconds % 60 == 0


def _duration(seconds: float) -> str:
    text = _per(seconds)
    return text if text[0].isdecimal() else f"1 {text}"
