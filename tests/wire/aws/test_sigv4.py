"""Signatures beside AWS's published examples, and beside botocore, which signs what most clients send."""

import string
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, quote

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.wire.aws import sigv4
from mainspring.wire.aws.errors import (
    AccessDenied,
    AuthorizationHeaderMalformed,
    AuthorizationQueryParametersError,
    RequestTimeTooSkewed,
    SignatureDoesNotMatch,
)

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
DATE = "20130524T000000Z"
AT_S = sigv4.seconds_of(DATE)
SCOPE = sigv4.Scope(KEY, "20130524", "us-east-1", "s3")
HOST = b"examplebucket.s3.amazonaws.com"

PUBLISHED = [
    (
        "GET",
        b"/test.txt",
        "",
        {b"range": b"bytes=0-9"},
        b"",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    (
        "PUT",
        b"/test$file.text",
        "",
        {b"date": b"Fri, 24 May 2013 00:00:00 GMT", b"x-amz-storage-class": b"REDUCED_REDUNDANCY"},
        b"Welcome to Amazon S3.",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    ("GET", b"/", "lifecycle", {}, b"", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
    ("GET", b"/", "max-keys=2&prefix=J", {}, b"", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
]


@pytest.mark.parametrize(("method", "path", "query", "extra", "body", "signature"), PUBLISHED)
def test_the_published_examples_are_believed(
    method: str, path: bytes, query: str, extra: dict[bytes, bytes], body: bytes, signature: str
) -> None:
    hashed = sha256(body).hexdigest()
    headers = {b"host": HOST, b"x-amz-content-sha256": hashed.encode(), b"x-amz-date": DATE.encode(), **extra}
    names = ";".join(sorted(name.decode() for name in headers))
    text = f"AWS4-HMAC-SHA256 Credential={KEY}/20130524/us-east-1/s3/aws4_request,SignedHeaders={names},Signature={signature}"
    claim = sigv4.claim_in_header(text, DATE)
    fields = parse_qsl(query, keep_blank_values=True)
    seed = sigv4.verify(claim, SECRET, method, path, fields, headers, hashed)
    assert seed.signature == signature
    with pytest.raises(SignatureDoesNotMatch):
        sigv4.verify(claim, SECRET + "x", method, path, fields, headers, hashed)


def test_the_published_presigned_url_is_believed_and_made() -> None:
    url = sigv4.presign("GET", HOST.decode(), "/test.txt", SCOPE, SECRET, AT_S, 86_400)
    assert url.endswith("&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")
    fields = parse_qsl(url.partition("?")[2])
    claim = sigv4.claim_in_query(dict(fields))
    sigv4.verify(claim, SECRET, "GET", b"/test.txt", fields, {b"host": HOST}, sigv4.UNSIGNED)
    sigv4.check_time(claim, AT_S + 86_400)
    with pytest.raises(AccessDenied, match="expired"):
        sigv4.check_time(claim, AT_S + 86_401)


keys = st.text(
    st.characters(codec="utf-8", exclude_characters="\n\r", exclude_categories=("Cs",)), min_size=1, max_size=30
)
printable = st.text(string.ascii_letters + string.digits + string.punctuation + " ", max_size=20)


@settings(max_examples=50)
@given(
    keys, st.dictionaries(keys, keys, max_size=4), st.dictionaries(st.sampled_from(["a", "b"]), printable), st.binary()
)
def test_what_botocore_signs_is_believed(
    key: str, query: dict[str, str], metadata: dict[str, str], body: bytes
) -> None:
    url = f"http://h.example:9000/bucket/{quote(key, safe='/~')}"
    headers = {f"x-amz-meta-{name}": value for name, value in metadata.items()}
    request: Any = AWSRequest("PUT", url, headers=headers, data=body, params=query)
    S3SigV4Auth(Credentials(KEY, SECRET), "s3", "us-east-1").add_auth(request)
    sent = {name.lower().encode(): value.encode() for name, value in request.headers.items()} | {
        b"host": b"h.example:9000"
    }
    claim = sigv4.claim_in_header(sent[b"authorization"].decode(), sent[b"x-amz-date"].decode())
    path = url.partition("9000")[2].encode()
    hashed = sent[b"x-amz-content-sha256"].decode()
    sigv4.verify(claim, SECRET, "PUT", path, list(query.items()), sent, hashed)
    with pytest.raises(SignatureDoesNotMatch):
        sigv4.verify(claim, SECRET, "PUT", path + b"x", list(query.items()), sent, hashed)


def test_what_botocore_presigns_is_believed() -> None:
    request: Any = AWSRequest("GET", "http://h.example:9000/b/a%20b", params={"response-content-type": "text/plain"})
    S3SigV4QueryAuth(Credentials(KEY, SECRET, "token"), "s3", "us-east-1", expires=60).add_auth(request)
    fields = parse_qsl(request.url.partition("?")[2])
    claim = sigv4.claim_in_query(dict(fields))
    assert (claim.token, claim.expires_s) == ("token", 60)
    sigv4.verify(claim, SECRET, "GET", b"/b/a%20b", fields, {b"host": b"h.example:9000"}, sigv4.UNSIGNED)


def test_our_own_signature_is_believed() -> None:
    headers = sigv4.authorize("GET", "/b/k", [("versionId", "1")], {"host": "h"}, SCOPE, SECRET, AT_S, sigv4.UNSIGNED)
    claim = sigv4.claim_in_header(headers["authorization"], headers["x-amz-date"])
    sent = {name.encode(): value.encode() for name, value in headers.items()}
    sigv4.verify(claim, SECRET, "GET", b"/b/k", [("versionId", "1")], sent, sigv4.UNSIGNED)


def test_a_header_that_is_not_signed_is_refused() -> None:
    headers = sigv4.authorize("GET", "/b/k", [], {"host": "h"}, SCOPE, SECRET, AT_S, sigv4.UNSIGNED)
    claim = sigv4.claim_in_header(headers["authorization"], headers["x-amz-date"])
    sent = {name.encode(): value.encode() for name, value in headers.items()} | {b"x-amz-acl": b"public-read"}
    with pytest.raises(AccessDenied, match="not signed"):
        sigv4.verify(claim, SECRET, "GET", b"/b/k", [], sent, sigv4.UNSIGNED)


def test_a_clock_may_be_off_by_fifteen_minutes_only() -> None:
    claim = sigv4.Claim(SCOPE, DATE, ("host",), "0" * 64)
    sigv4.check_time(claim, AT_S + 900)
    sigv4.check_time(claim, AT_S - 900)
    for now_s in (AT_S - 901, AT_S + 901):
        with pytest.raises(RequestTimeTooSkewed):
            sigv4.check_time(claim, now_s)


@pytest.mark.parametrize(
    "text",
    [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=a/b/c,SignedHeaders=host,Signature=" + "0" * 64,
        f"AWS4-HMAC-SHA256 Credential={KEY}/20130524/us-east-1/s3/aws4_request,SignedHeaders=host,Signature=00",
        f"AWS4-HMAC-SHA256 Credential={KEY}/20130525/us-east-1/s3/aws4_request,SignedHeaders=host,Signature="
        + "0" * 64,
    ],
)
def test_a_malformed_header_is_said_to_be_malformed(text: str) -> None:
    with pytest.raises(AuthorizationHeaderMalformed):
        sigv4.claim_in_header(text, DATE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Amz-Expires", "604801"),
        ("X-Amz-Expires", "-1"),
        ("X-Amz-Date", "yesterday"),
        ("X-Amz-Signature", "zz"),
        ("X-Amz-Credential", "me"),
        ("X-Amz-Algorithm", "AWS4-ECDSA-P256-SHA256"),
    ],
)
def test_a_malformed_presigned_url_is_said_to_be_malformed(name: str, value: str) -> None:
    url = sigv4.presign("GET", "h", "/k", SCOPE, SECRET, AT_S)
    fields = dict(parse_qsl(url.partition("?")[2])) | {name: value}
    with pytest.raises(AuthorizationQueryParametersError):
        sigv4.claim_in_query(fields)


def test_derived_keys_are_remembered_and_forgotten() -> None:
    assert sigv4.derived_key.cache_info().maxsize == sigv4.DERIVED_KEYS_MAX == 10_000
