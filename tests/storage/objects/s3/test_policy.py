"""The policy engine: what a document decides, and which documents are none."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.storage.objects.s3.conditions import Context
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.policy import Asked, Decision, Principal, compile_policy

ALICE = Principal(frozenset({"111122223333", "arn:aws:iam::111122223333:root", "a" * 64}))
NOBODY = Principal()


def statement(**changes: Any) -> dict[str, Any]:
    base = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}
    given = {**base, **changes}
    return {name: value for name, value in given.items() if value is not None}


def decide(
    *statements: dict[str, Any],
    principal: Principal = ALICE,
    action: str = "s3:GetObject",
    key: str = "k",
    context: dict[str, Sequence[str]] | None = None,
) -> Decision:
    document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)}).encode()
    resource = f"arn:aws:s3:::b/{key}" if key else "arn:aws:s3:::b"
    return compile_policy(document, "b").decide(Asked(principal, action, resource, Context((context or {}).get)))


def test_a_deny_wins_wherever_it_stands_and_says_its_name() -> None:
    allow, deny = statement(Sid="A"), statement(Sid="D", Effect="Deny", Resource="arn:aws:s3:::b/secret/*")
    for order in ((allow, deny), (deny, allow)):
        assert decide(*order) == Decision("allow", "A")
        assert decide(*order, key="secret/k") == Decision("deny", "D")
    assert decide(deny) == Decision("none")
    assert decide(statement()) == Decision("allow", "#1")


@pytest.mark.parametrize(
    ("changes", "asked", "outcome"),
    [
        ({"Action": "s3:*"}, {"action": "s3:PutObject"}, "allow"),
        ({"Action": "s3:Get*"}, {"action": "s3:PutObject"}, "none"),
        ({"Action": "S3:getobject"}, {}, "allow"),
        ({"Action": None, "NotAction": "s3:DeleteObject"}, {}, "allow"),
        ({"Action": None, "NotAction": "s3:GetObject"}, {}, "none"),
        ({"Resource": "arn:aws:s3:::b/a?c"}, {"key": "abc"}, "allow"),
        ({"Resource": "arn:aws:s3:::b/a?c"}, {"key": "ac"}, "none"),
        ({"Resource": ["arn:aws:s3:::b", "arn:aws:s3:::b/x*"]}, {"key": "x/y/z"}, "allow"),
        ({"Resource": None, "NotResource": "arn:aws:s3:::b/private/*"}, {"key": "private/k"}, "none"),
        ({"Resource": None, "NotResource": "arn:aws:s3:::b/private/*"}, {"key": "k"}, "allow"),
        ({"Resource": "arn:aws:s3:::b/[a]*"}, {"key": "a"}, "none"),
        ({"Principal": {"AWS": "111122223333"}}, {}, "allow"),
        ({"Principal": {"AWS": ["arn:aws:iam::111122223333:root"]}}, {}, "allow"),
        ({"Principal": {"AWS": "999999999999"}}, {}, "none"),
        ({"Principal": {"CanonicalUser": "a" * 64}}, {}, "allow"),
        ({"Principal": {"AWS": "*"}}, {"principal": NOBODY}, "allow"),
        ({"Principal": {"AWS": "111122223333"}}, {"principal": NOBODY}, "none"),
        ({"Principal": None, "NotPrincipal": {"AWS": "111122223333"}}, {}, "none"),
        ({"Principal": None, "NotPrincipal": {"AWS": "999999999999"}}, {}, "allow"),
    ],
)
def test_who_what_and_where(changes: dict[str, Any], asked: dict[str, Any], outcome: str) -> None:
    assert decide(statement(**changes), **asked).outcome == outcome


@pytest.mark.parametrize(
    ("condition", "context", "holds"),
    [
        ({"StringEquals": {"s3:prefix": ["a", "b"]}}, {"s3:prefix": ["b"]}, True),
        ({"StringEquals": {"s3:prefix": "a"}}, {"s3:prefix": ["c"]}, False),
        ({"StringEquals": {"s3:prefix": "a"}}, {}, False),
        ({"StringEqualsIfExists": {"s3:prefix": "a"}}, {}, True),
        ({"StringNotEquals": {"s3:prefix": ["a", "b"]}}, {"s3:prefix": ["b"]}, False),
        ({"StringNotEquals": {"s3:prefix": "a"}}, {}, True),
        ({"StringEqualsIgnoreCase": {"s3:prefix": "A"}}, {"s3:prefix": ["a"]}, True),
        ({"StringLike": {"aws:Referer": "http://*.example/*"}}, {"aws:referer": ["http://www.example/x"]}, True),
        ({"StringNotLike": {"aws:Referer": "http://*"}}, {"aws:referer": ["http://x"]}, False),
        ({"NumericLessThanEquals": {"s3:max-keys": "10"}}, {"s3:max-keys": ["10"]}, True),
        ({"NumericGreaterThan": {"s3:max-keys": 10}}, {"s3:max-keys": ["10"]}, False),
        ({"NumericEquals": {"s3:max-keys": "10"}}, {"s3:max-keys": ["ten"]}, False),
        (
            {"DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}},
            {"aws:currenttime": ["2026-01-01T00:00:00Z"]},
            True,
        ),
        ({"DateGreaterThan": {"aws:EpochTime": "1700000000"}}, {"aws:epochtime": ["1800000000"]}, True),
        ({"Bool": {"aws:SecureTransport": False}}, {"aws:securetransport": ["false"]}, True),
        ({"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "2001:db8::/32"]}}, {"aws:sourceip": ["10.9.8.7"]}, True),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:sourceip": ["::1"]}, False),
        ({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:sourceip": ["192.0.2.1"]}, True),
        ({"Null": {"s3:x-amz-acl": "true"}}, {}, True),
        ({"Null": {"s3:x-amz-acl": "false"}}, {"s3:x-amz-acl": ["private"]}, True),
        (
            {"ForAnyValue:StringEquals": {"s3:RequestObjectTagKeys": ["a", "b"]}},
            {"s3:requestobjecttagkeys": ["x", "a"]},
            True,
        ),
        ({"ForAnyValue:StringEquals": {"s3:RequestObjectTagKeys": "a"}}, {}, False),
        (
            {"ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["a"]}},
            {"s3:requestobjecttagkeys": ["x", "a"]},
            False,
        ),
        ({"ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["a"]}}, {}, True),
        (
            {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/x"}},
            {"aws:principalarn": ["arn:aws:iam::1:role/x"]},
            True,
        ),
        (
            {"StringEquals": {"s3:prefix": "mine/${aws:username}"}},
            {"s3:prefix": ["mine/al"], "aws:username": ["al"]},
            True,
        ),
        (
            {"StringEquals": {"s3:prefix": "mine/${aws:username}"}},
            {"s3:prefix": ["mine/bo"], "aws:username": ["al"]},
            False,
        ),
        ({"Bool": {"aws:SecureTransport": "true"}, "StringEquals": {"s3:prefix": "a"}}, {"s3:prefix": ["a"]}, False),
    ],
)
def test_conditions(condition: dict[str, Any], context: dict[str, Sequence[str]], holds: bool) -> None:
    assert decide(statement(Condition=condition), context=context).outcome == ("allow" if holds else "none")


def test_a_resource_may_name_the_caller() -> None:
    mine = statement(Resource="arn:aws:s3:::b/mine/${aws:username}/*")
    assert decide(mine, key="mine/al/k", context={"aws:username": ["al"]}).outcome == "allow"
    assert decide(mine, key="mine/bo/k", context={"aws:username": ["al"]}).outcome == "none"
    assert decide(mine, key="mine/${aws:username}/k").outcome == "none"


@pytest.mark.parametrize(
    "changes",
    [
        {"Effect": "Maybe"},
        {"Action": "s3:Fly"},
        {"Action": "ec2:*"},
        {"Action": []},
        {"Action": "s3:GetObject", "NotAction": "s3:PutObject"},
        {"Resource": "arn:aws:s3:::other/*"},
        {"Resource": "*"},
        {"Principal": None},
        {"Principal": {"Zoo": "x"}},
        {"Principal": {"AWS": "no such thing!"}},
        {"Condition": {"StringSounds": {"s3:prefix": "a"}}},
        {"Condition": {"StringEquals": {"prefix": "a"}}},
        {"Condition": {"IpAddress": {"aws:SourceIp": "somewhere"}}},
        {"Condition": {"ForSomeValue:StringEquals": {"s3:prefix": "a"}}},
        {"Condition": {"NumericEquals": {"s3:max-keys": "many"}}},
        {"Sid": 7},
        {"Extra": "x"},
    ],
)
def test_a_document_that_is_none_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(S3Error) as wrong:
        decide(statement(**changes))
    assert wrong.value.code == "MalformedPolicy"


@pytest.mark.parametrize(
    ("changes", "public"),
    [
        ({}, True),
        ({"Effect": "Deny"}, False),
        ({"Principal": {"AWS": "111122223333"}}, False),
        ({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}, False),
        ({"Condition": {"StringEquals": {"s3:prefix": "a"}}}, True),
    ],
)
def test_what_is_open_to_everybody_is_public(changes: dict[str, Any], public: bool) -> None:
    document = json.dumps({"Statement": [statement(**changes)]}).encode()
    assert compile_policy(document, "b").public is public


@settings(max_examples=50)
@given(st.text("ab*?/", max_size=12), st.text("ab/", max_size=12))
def test_wildcards_match_as_an_obvious_matcher_does(pattern: str, key: str) -> None:
    def matches(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return matches(pattern[1:], text) or (bool(text) and matches(pattern, text[1:]))
        return bool(text) and pattern[0] in ("?", text[0]) and matches(pattern[1:], text[1:])

    assert (decide(statement(Resource=f"arn:aws:s3:::b/{pattern}"), key=f"{key}").outcome == "allow") is (
        matches(pattern, key) if key else matches(f"arn:aws:s3:::b/{pattern}", "arn:aws:s3:::b")
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Effect", "Action", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(["Effect", "Principal", "Action", "Resource", "Condition", "Sid"]), json_values))
def test_any_json_is_a_policy_or_malformed(read: dict[str, Any]) -> None:
    document = json.dumps({"Statement": [{**statement(), **read}]}).encode()
    try:
        compile_policy(document, "b")
    except S3Error as error:
        if error.code != "MalformedPolicy":
            raise
