"""Bucket policies: documents compiled once into closures, and the decision they come to.

A statement becomes one function of a request: its principal, action, resource and conditions are tests that were chosen when
the document was read. A request asks each statement; an explicit Deny wins over any Allow, and whoever decides says which
statement it was. Regular expressions are made of wildcards by re2, whose time is linear in the text.

Follows "IAM JSON policy elements" of the AWS reference; the same engine reads session policies, which have no principal.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from mainspring.storage.objects.s3.actions import known
from mainspring.storage.objects.s3.conditions import Context, Test, compile_conditions
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.patterns import pattern

DOCUMENT_BYTES_MAX = 20 << 10
STATEMENTS_MAX = 200
VERSIONS = ("2012-10-17", "2008-10-17")

Outcome = Literal["allow", "deny", "none"]


class Principal(msgspec.Struct, frozen=True):
    """Who asks, in a policy's words: all names by which statements may mean them. Empty for anonymous callers."""

    names: frozenset[str] = frozenset()


class Asked(msgspec.Struct):
    """What a statement is asked: may `principal` do `action` to `resource`? `context` gives the values of condition keys."""

    principal: Principal
    action: str
    resource: str
    context: Context


class Decision(msgspec.Struct, frozen=True):
    """`statement` is the Sid of what decided, or its place (`#1`)."""

    outcome: Outcome
    statement: str = ""


Matches = Callable[[Asked], bool]


class Statement(msgspec.Struct, frozen=True):
    sid: str
    allows: bool
    matches: Matches
    public: bool


class Policy(msgspec.Struct, frozen=True):
    """A compiled document. `public`: it allows something to everybody, without a condition that narrows whom."""

    statements: tuple[Statement, ...]
    public: bool

    def decide(self, asked: Asked) -> Decision:
        allowed = ""
        for statement in self.statements:
            if (not statement.allows or not allowed) and statement.matches(asked):
                if not statement.allows:
                    return Decision("deny", statement.sid)
                allowed = statement.sid
        return Decision("allow", allowed) if allowed else Decision("none")


def compile_policy(document: bytes, bucket: str | None) -> Policy:
    """Compiles a policy of `bucket`, or with None a session's. Raises `MalformedPolicy` that says what is wrong."""
    if len(document) > DOCUMENT_BYTES_MAX:
        raise S3Error("MalformedPolicy", "Policies are at most 20 KiB")
    try:
        read = msgspec.json.decode(document)
    except (ValueError, RecursionError):  # of what is no UTF-8 msgspec says another one
        raise S3Error("MalformedPolicy") from None
    if not isinstance(read, dict):
        raise S3Error("MalformedPolicy")
    _only(read, {"Version", "Id", "Statement"})
    if read.get("Version", "2008-10-17") not in VERSIONS:
        raise _wrong("The policy must contain a valid version string")
    listed = read.get("Statement")
    listed = [listed] if isinstance(listed, dict) else listed
    if not isinstance(listed, list) or not 0 < len(listed) <= STATEMENTS_MAX:
        raise _wrong("Missing required field Statement")
    statements = tuple(_statement(one, place, bucket) for place, one in enumerate(listed, 1))
    sids = [one.sid for one in statements]
    if len(set(sids)) != len(sids):
        raise _wrong("Statement IDs (SID) in a single policy must be unique")
    return Policy(statements, any(one.public for one in statements))


def _statement(read: Any, place: int, bucket: str | None) -> Statement:
    if not isinstance(read, dict):
        raise _wrong("A statement is an object")
    principals = {"Principal", "NotPrincipal"} if bucket is not None else set()
    _only(read, {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"} | principals)
    sid = read.get("Sid") or f"#{place}"
    if not isinstance(sid, str):
        raise _wrong("Invalid Sid")
    if read.get("Effect") not in ("Allow", "Deny"):
        raise _wrong("Invalid effect")
    tests: list[Matches] = [_actions(read), _resources(read, bucket)]
    everybody = False
    if bucket is not None:
        test, everybody = _principals(read)
        if test is not None:
            tests.insert(0, test)
    conditions, narrowing = compile_conditions(read.get("Condition"))
    allows = read["Effect"] == "Allow"
    return Statement(sid, allows, _all(tests, conditions), allows and everybody and not narrowing)


def _all(tests: Sequence[Matches], conditions: Sequence[Test]) -> Matches:
    def matches(asked: Asked) -> bool:
        return all(test(asked) for test in tests) and all(test(asked.context) for test in conditions)

    return matches


def _one_of(read: dict[str, Any], name: str) -> tuple[Any, bool]:
    """The value of `name` or of `Not<name>`, and whether it is the latter."""
    if (name in read) == (f"Not{name}" in read):
        raise _wrong(f"A statement needs one of {name} and Not{name}")
    return (read[name], False) if name in read else (read[f"Not{name}"], True)


def _actions(read: dict[str, Any]) -> Matches:
    value, negated = _one_of(read, "Action")
    names = _texts(value, "Invalid action")
    for name in names:
        if name != "*" and not (name.lower().startswith("s3:") and known(name)):
            raise _wrong("Policy has invalid action")
    matches = [pattern(name.lower() if name != "*" else "s3:*") for name in names]
    decided: dict[str, bool] = {}

    def test(asked: Asked) -> bool:
        found = decided.get(asked.action)
        if found is None:
            lower = asked.action.lower()
            found = decided[asked.action] = any(match(lower) for match in matches) is not negated
        return found

    return test


def _resources(read: dict[str, Any], bucket: str | None) -> Matches:
    value, negated = _one_of(read, "Resource")
    names = _texts(value, "Policy has invalid resource")
    whole = f"arn:aws:s3:::{bucket}"
    for name in names:
        ours = name == whole or name.startswith(f"{whole}/") or (bucket is None and name.startswith("arn:aws:s3:::"))
        if not ours and not (bucket is None and name == "*"):
            raise _wrong("Policy has invalid resource")
    fixed = [pattern(name) for name in names if "${" not in name]
    varying = [name for name in names if "${" in name]

    def test(asked: Asked) -> bool:
        resource = asked.resource
        found = any(match(resource) for match in fixed) or any(
            pattern(text)(resource) for text in map(asked.context.filled, varying) if text is not None
        )
        return found is not negated

    return test


def _principals(read: dict[str, Any]) -> tuple[Matches | None, bool]:
    """The test of who asks (None: everybody passes), and whether it means everybody."""
    value, negated = _one_of(read, "Principal")
    if isinstance(value, dict) and value and set(value) <= {"AWS", "CanonicalUser", "Federated", "Service"}:
        names = [name for kind in value.values() for name in _texts(kind, "Invalid principal in policy")]
    elif value == "*":
        names = ["*"]
    else:
        raise _wrong("Invalid principal in policy")
    for name in names:
        if not (name == "*" or name.startswith("arn:aws:") or name.isalnum() or name.endswith(".amazonaws.com")):
            raise _wrong("Invalid principal in policy")
    wanted = frozenset(names)
    if "*" in wanted:
        return (None if not negated else lambda asked: False), not negated

    def test(asked: Asked) -> bool:
        return (not wanted.isdisjoint(asked.principal.names)) is not negated

    return test, negated


def _texts(value: Any, wrong: str) -> list[str]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed or not all(isinstance(one, str) and one for one in listed):
        raise _wrong(wrong)
    return listed


def _only(read: dict[str, Any], names: set[str]) -> None:
    unknown = sorted(set(read) - names)
    if unknown:
        raise _wrong(f"Unknown field {unknown[0][:80]}")


def _wrong(detail: str) -> S3Error:
    return S3Error("MalformedPolicy", detail)
