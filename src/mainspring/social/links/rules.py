"""Redirect rules: where a visitor is sent, decided from what is known of the visitor and nothing else.

Rules are tried in order and the first whose conditions all hold decides. A rule sends to one target, to one of several by
weight (the same visitor always to the same one), or into an app with the target as its fallback.
"""

import ipaddress
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Literal

import msgspec

RULES_MAX = 50
CONDITIONS_MAX = 20
VARIANTS_MAX = 10

Kind = Literal[
    "device", "os", "browser", "language", "query", "query-any-value", "query-valueless", "country", "city",
    "ip", "referrer", "before", "after", "hours",
]  # fmt: skip
_APP = re.compile(
    r"(?!(?:https?|javascript|data|vbscript|file|blob):)[a-z][a-z0-9+.-]{1,30}:[!#-;=?-~]{1,2000}", re.IGNORECASE
)
EPOCH = datetime(1970, 1, 1)
DEVICES = frozenset({"mobile", "tablet", "desktop", "ios", "android", "windows", "macos", "linux", "chromeos"})


class Condition(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One thing that must be true. `key` names the parameter of the `query` kinds; `value` is what is wanted.

    `device` is a class (`mobile`, `tablet`, `desktop`) or a system (`ios`, `android`, `windows`, `macos`, `linux`,
    `chromeos`); `language` a tag (`de` holds for `de-AT` too); `ip` an address, a network or `10.1.*.*`; `referrer` a host
    with all below it; `before` and `after` instants (RFC 3339); `hours` a daily window in UTC such as `22:00-06:30`.
    """

    kind: Kind
    value: str | None = None
    key: str | None = None


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    target: str
    weight: int = 1


class Rule(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """`when` holds → go to `target`, or to one of `split` by weight. `app` is an address inside an app to try first."""

    when: tuple[Condition, ...] = ()
    target: str | None = None
    split: tuple[Variant, ...] = ()
    app: str | None = None


class Visitor(msgspec.Struct, frozen=True):
    """All that rules may look at. Names are lower case, `country` is ISO 3166 in capitals, `at_us` microseconds UTC."""

    device: str = ""
    os: str = ""
    browser: str = ""
    languages: tuple[str, ...] = ()
    query: tuple[tuple[str, str], ...] = ()
    country: str = ""
    city: str = ""
    address: str = ""
    referrer: str = ""
    at_us: int = 0
    key: bytes = b""


class Choice(msgspec.Struct, frozen=True):
    """`rule` is the place of the rule that decided, None where the link's own target did."""

    target: str
    rule: int | None = None
    app: str | None = None


class Finding(msgspec.Struct, frozen=True):
    condition: Condition
    holds: bool
    seen: str


class Trial(msgspec.Struct, frozen=True):
    """How one rule fared: `fires` is true for the first whose conditions all hold."""

    rule: int
    fires: bool
    holds: bool
    target: str
    findings: tuple[Finding, ...]


def decide(target: str, rules: tuple[Rule, ...], visitor: Visitor, salt: bytes = b"") -> Choice:
    """Where `visitor` goes. `salt` (the link's code) keeps the draws of different links apart."""
    for place, rule in enumerate(rules):
        if all(holds(condition, visitor) for condition in rule.when):
            return Choice(_target(rule, visitor, salt), place, rule.app)
    return Choice(target)


def explain(rules: tuple[Rule, ...], visitor: Visitor, salt: bytes = b"") -> tuple[Trial, ...]:
    """Each rule with what it asked and what it saw."""
    trials, decided = [], False
    for place, rule in enumerate(rules):
        findings = tuple(Finding(one, holds(one, visitor), _seen(one, visitor)) for one in rule.when)
        whole = all(finding.holds for finding in findings)
        trials.append(Trial(place, whole and not decided, whole, _target(rule, visitor, salt), findings))
        decided = decided or whole
    return tuple(trials)


def holds(condition: Condition, visitor: Visitor) -> bool:
    """Whether a checked condition is true of `visitor`."""
    value, key = condition.value or "", condition.key or ""
    match condition.kind:
        case "device":
            handheld = value == "mobile" and visitor.device == "tablet"
            return value in (visitor.device, visitor.os) or handheld
        case "os":
            return visitor.os == value.lower()
        case "browser":
            return visitor.browser == value.lower()
        case "language":
            wanted = value.lower()
            return any(one == wanted or one.startswith(wanted + "-") for one in visitor.languages)
        case "query":
            return (key, value) in visitor.query
        case "query-any-value":
            return any(name == key for name, _ in visitor.query)
        case "query-valueless":
            return (key, "") in visitor.query
        case "country":
            return visitor.country == value.upper()
        case "city":
            return visitor.city.casefold() == value.casefold()
        case "ip":
            return bool(visitor.address) and ipaddress.ip_address(visitor.address) in network(value)
        case "referrer":
            return visitor.referrer == value.lower() or visitor.referrer.endswith("." + value.lower())
        case "before":
            return visitor.at_us < instant_us(value)
        case "after":
            return visitor.at_us >= instant_us(value)
        case "hours":
            start, end = window(value)
            minute = visitor.at_us // 60_000_000 % 1440
            return start <= minute < end if start <= end else minute >= start or minute < end


def fault(rules: tuple[Rule, ...]) -> tuple[str, str] | None:
    """What is wrong with the first wrong rule, as (JSON pointer, reason); None where all can be used.

    Targets are not looked at: `targets_of` gives them to whoever knows which ones are allowed.
    """
    if len(rules) > RULES_MAX:
        return "/rules", f"at most {RULES_MAX} rules"
    for place, rule in enumerate(rules):
        if len(rule.when) > CONDITIONS_MAX or len(rule.split) > VARIANTS_MAX:
            return f"/rules/{place}", f"at most {CONDITIONS_MAX} conditions and {VARIANTS_MAX} variants"
        if (rule.target is None) == (not rule.split):
            return f"/rules/{place}", "give either target or split"
        if rule.app is not None and not _APP.fullmatch(rule.app):
            return f"/rules/{place}/app", "an app's address is like myapp://path"
        if any(not 1 <= variant.weight <= 1000 for variant in rule.split):
            return f"/rules/{place}/split", "a weight is 1 to 1000"
        for number, condition in enumerate(rule.when):
            reason = _fault(condition)
            if reason is not None:
                return f"/rules/{place}/when/{number}", reason
    return None


def targets_of(rules: tuple[Rule, ...]) -> list[str]:
    """Every web address the rules can send somebody to; app addresses are not among them."""
    return [target for rule in rules for target in (rule.target, *(one.target for one in rule.split)) if target]


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """An address, a network, or an IPv4 address with trailing stars. Raises `ValueError`."""
    stars = text.count("*")
    if stars:
        return ipaddress.ip_network(f"{text.replace('*', '0')}/{32 - 8 * stars}")
    return ipaddress.ip_network(text, strict=False)


def instant_us(text: str) -> int:
    """RFC 3339 to microseconds UTC; a time without offset is UTC. Raises `ValueError`."""
    when = datetime.fromisoformat(text)
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    whole = int(when.replace(microsecond=0).timestamp())
    return whole * 1_000_000 + when.microsecond


def instant_text(at_us: int) -> str:
    """Microseconds UTC as RFC 3339, to the second where it is whole."""
    second, rest = divmod(at_us, 1_000_000)
    return f"{_second_text(second)}.{rest:06}Z" if rest else f"{_second_text(second)}Z"


@lru_cache(maxsize=64)
def _second_text(second: int) -> str:
    """Writing a time is dear, and much is made in one second."""
    return (EPOCH + timedelta(seconds=second)).isoformat()


def window(text: str) -> tuple[int, int]:
    """`HH:MM-HH:MM` as minutes of the day. Raises `ValueError`."""
    start, end = (datetime.strptime(part, "%H:%M") for part in text.split("-"))
    return start.hour * 60 + start.minute, end.hour * 60 + end.minute


def _target(rule: Rule, visitor: Visitor, salt: bytes) -> str:
    if rule.target is not None:
        return rule.target
    digest = blake2b(visitor.key, key=salt[:64], digest_size=8).digest()
    draw = int.from_bytes(digest, "big") % sum(variant.weight for variant in rule.split)
    for variant in rule.split:
        draw -= variant.weight
        if draw < 0:
            return variant.target
    raise AssertionError("a draw is below the sum of the weights")


def _fault(condition: Condition) -> str | None:
    kind, value = condition.kind, condition.value or ""
    if len(value) > 500 or len(condition.key or "") > 100:
        return "a value has at most 500 characters, a key 100"
    if kind.startswith("query"):
        return None if condition.key else "key names the parameter"
    if not value:
        return "value is missing"
    if kind == "device" and value not in DEVICES:
        return f"a device is one of {', '.join(sorted(DEVICES))}"
    if kind == "country" and not (len(value) == 2 and value.isascii() and value.isalpha()):
        return "a country is two letters (ISO 3166)"
    check = {"ip": network, "before": instant_us, "after": instant_us, "hours": window}.get(kind)
    try:
        if check is not None:
            check(value)
    except (ValueError, OverflowError):
        return f"{value!r} is not written as {kind} wants it"
    return None


def _seen(condition: Condition, visitor: Visitor) -> str:
    match condition.kind:
        case "device":
            return f"{visitor.device} {visitor.os}".strip()
        case "language":
            return ", ".join(visitor.languages)
        case "query" | "query-any-value" | "query-valueless":
            return "&".join(f"{name}={value}" for name, value in visitor.query)
        case "ip":
            return visitor.address
        case "before" | "after" | "hours":
            return instant_text(visitor.at_us)
        case "os" | "browser" | "country" | "city" | "referrer":
            return str(getattr(visitor, condition.kind))
