"""Conditions of policies: operators over the values that a request gives to `aws:*` and `s3:*` keys.

A block of conditions is compiled to tests that must all hold. A key with several values in the policy passes with any of
them (with a negated operator: with none); a key that the request does not have fails, passes with `IfExists` and
with negated operators, as AWS has it.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.patterns import Compare, pattern

CONDITIONS_MAX = 200
VALUES_MAX = 1_000
NARROWING = frozenset(
    {
        "aws:sourceip",
        "aws:principalarn",
        "aws:principalaccount",
        "aws:sourcearn",
        "aws:sourceaccount",
        "aws:userid",
        "aws:username",
        "aws:principalorgid",
        "s3:dataaccesspointarn",
    }
)
"""Keys that narrow whom a statement means, so that it is not public."""

Gather = Callable[[str], Sequence[str] | None]
_VARIABLE = re.compile(r"\$\{([^}]{1,100})\}")


class Context:
    """The values of condition keys for one request, each made when a policy first asks for it. Names are lower case."""

    __slots__ = ("_gather", "_known")

    def __init__(self, gather: Gather) -> None:
        self._gather = gather
        self._known: dict[str, Sequence[str] | None] = {}

    def get(self, key: str) -> Sequence[str] | None:
        if key not in self._known:
            self._known[key] = self._gather(key)
        return self._known[key]

    def filled(self, text: str) -> str | None:
        """`text` with its policy variables; None, which matches nothing, where one has no value or several."""
        parts: list[str] = []
        at = 0
        for found in _VARIABLE.finditer(text):
            name = found[1].partition(",")[0].strip().lower()
            values = (name,) if name in ("*", "?", "$") else self.get(name)
            if not values or len(values) != 1:
                return None
            parts += (text[at : found.start()], values[0])
            at = found.end()
        return "".join([*parts, text[at:]])


Test = Callable[[Context], bool]


def compile_conditions(block: Any) -> tuple[list[Test], bool]:
    """The tests of a `Condition`, and whether any narrows whom the statement means. Raises `MalformedPolicy`."""
    if block is None:
        return [], False
    if not isinstance(block, dict):
        raise _wrong("Conditions must be a map")
    tests: list[Test] = []
    narrowing = False
    for operator, keys in block.items():
        if not isinstance(keys, dict):
            raise _wrong("Conditions must be a map")
        for key, values in keys.items():
            if len(tests) >= CONDITIONS_MAX:
                raise _wrong("Too many conditions")
            lower = key.lower()
            if not re.fullmatch(r"(aws|s3|sts|kms|jwt|saml):[a-z0-9:/_.@+= -]{1,200}", lower):
                raise _wrong("Policy has an invalid condition key")
            tests.append(_test(operator, lower, _values(values)))
            narrowing = narrowing or lower in NARROWING
    return tests, narrowing


def _test(operator: str, key: str, values: list[str]) -> Test:
    quantifier, colon, name = operator.rpartition(":")
    if colon and quantifier not in ("ForAnyValue", "ForAllValues"):
        raise _wrong(f"Invalid Condition type : {operator[:60]}")
    if name == "Null":
        return _null(key, values)
    if_exists = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    negated = name in _NEGATED
    make = _OPERATORS.get(_NEGATED.get(name, name))
    if make is None:
        raise _wrong(f"Invalid Condition type : {operator[:60]}")
    if any("${" in value for value in values) and make in (_equal, _like, _equal_fold):
        fixed: list[Compare] | None = None
    else:
        fixed = [make(value) for value in values]
    if_absent = (
        quantifier == "ForAllValues" or (not quantifier and (negated or if_exists)) or (if_exists and bool(quantifier))
    )
    quantify = any if quantifier == "ForAnyValue" else all

    def test(context: Context) -> bool:
        given = context.get(key)
        if not given:
            return if_absent
        compares = fixed
        if compares is None:
            compares = [make(text) for text in map(context.filled, values) if text is not None]
        if quantifier:
            return quantify(any(compare(one) for compare in compares) is not negated for one in given)
        return any(compare(one) for compare in compares for one in given) is not negated

    return test


def _null(key: str, values: list[str]) -> Test:
    if any(value.lower() not in ("true", "false") for value in values):
        raise _wrong("Null takes true or false")
    wanted = any(value.lower() == "true" for value in values)
    return lambda context: (not context.get(key)) is wanted


def _equal(wanted: str) -> Compare:
    return wanted.__eq__


def _equal_fold(wanted: str) -> Compare:
    lower = wanted.lower()
    return lambda value: value.lower() == lower


def _like(wanted: str) -> Compare:
    return pattern(wanted)


def _boolean(wanted: str) -> Compare:
    lower = wanted.lower()
    if lower not in ("true", "false"):
        raise _wrong("Bool takes true or false")
    return lambda value: value.lower() == lower


def _network(wanted: str) -> Compare:
    try:
        network = ipaddress.ip_network(wanted, strict=False)
    except ValueError:
        raise _wrong(f"Invalid IP address or network: {wanted[:60]}") from None

    def inside(value: str) -> bool:
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            return False
        return address.version == network.version and address in network

    return inside


def _ordered(parse: Callable[[str], Any], compare: Callable[[Any, Any], bool]) -> Callable[[str], Compare]:
    def make(wanted: str) -> Compare:
        bound = parse(wanted)
        if bound is None:
            raise _wrong(f"A condition's value cannot be read: {wanted[:60]}")

        def test(value: str) -> bool:
            read = parse(value)
            return read is not None and compare(read, bound)

        return test

    return make


def _number(text: str) -> Decimal | None:
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def _moment(text: str) -> float | None:
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]+)?", text):
        return float(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "Equals": lambda a, b: bool(a == b),
    "LessThan": lambda a, b: bool(a < b),
    "LessThanEquals": lambda a, b: bool(a <= b),
    "GreaterThan": lambda a, b: bool(a > b),
    "GreaterThanEquals": lambda a, b: bool(a >= b),
}
_OPERATORS: dict[str, Callable[[str], Compare]] = {
    "StringEquals": _equal,
    "StringEqualsIgnoreCase": _equal_fold,
    "StringLike": _like,
    "BinaryEquals": _equal,
    "ArnEquals": _like,
    "ArnLike": _like,
    "Bool": _boolean,
    "IpAddress": _network,
    **{f"Numeric{name}": _ordered(_number, compare) for name, compare in _COMPARISONS.items()},
    **{f"Date{name}": _ordered(_moment, compare) for name, compare in _COMPARISONS.items()},
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NotIpAddress": "IpAddress",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
}


def _values(values: Any) -> list[str]:
    listed = values if isinstance(values, list) else [values]
    if not listed or len(listed) > VALUES_MAX:
        raise _wrong("A condition needs values")
    texts = []
    for value in listed:
        if isinstance(value, bool):
            texts.append(str(value).lower())
        elif isinstance(value, str | int | float):
            texts.append(str(value))
        else:
            raise _wrong("A condition's values are texts, numbers or booleans")
    return texts


def _wrong(detail: str) -> S3Error:
    return S3Error("MalformedPolicy", detail)
