"""Signature Version 2, with botocore as the other side."""

from urllib.parse import parse_qsl, urlsplit

import pytest
from botocore.auth import HmacV1Auth, HmacV1QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from mainspring.wire.aws import sigv2
from mainspring.wire.aws.errors import AccessDenied, RequestTimeTooSkewed, SignatureDoesNotMatch

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
URLS = [
    "http://127.0.0.1:9000/bucket/key",
    "http://127.0.0.1:9000/bucket/a%20key/%C3%A4?versionId=7&response-content-type=text%2Fplain&max-keys=3",
    "http://127.0.0.1:9000/bucket?acl",
    "http://127.0.0.1:9000/",
]


def credentials(token: str | None = None) -> Credentials:
    return Credentials(KEY, SECRET, token)


def seen(request: AWSRequest) -> tuple[bytes, list[tuple[str, str]], dict[bytes, bytes]]:
    """Path, query and headers as a server gets them."""
    parts = urlsplit(request.url)
    headers = {name.lower().encode(): str(value).encode() for name, value in request.headers.items()}
    return parts.path.encode(), parse_qsl(parts.query, keep_blank_values=True), headers


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("token", [None, "temporary"])
def test_what_botocore_signs_in_a_header_is_believed_and_nothing_else(url: str, token: str | None) -> None:
    request = AWSRequest(
        "PUT", url, {"content-type": "text/plain", "x-amz-meta-b": " two  words ", "x-amz-acl": "private"}
    )
    HmacV1Auth(credentials(token)).add_auth(request)
    path, query, headers = seen(request)
    claim = sigv2.claim_in_header(headers[b"authorization"].decode(), token or "")
    assert claim.access_key == KEY
    sigv2.verify(claim, SECRET, "PUT", path, query, headers)
    for method, at, changed in (
        ("GET", path, headers),
        ("PUT", path + b"x", headers),
        ("PUT", path, headers | {b"x-amz-acl": b"public-read"}),
        ("PUT", path, headers | {b"x-amz-copy-source": b"/other/key"}),
    ):
        with pytest.raises(SignatureDoesNotMatch):
            sigv2.verify(claim, SECRET, method, at, query, changed)


@pytest.mark.parametrize("url", URLS)
def test_a_url_that_botocore_presigns_is_believed_until_it_expires(url: str) -> None:
    request = AWSRequest("GET", url, {})
    HmacV1QueryAuth(credentials(), expires=60).add_auth(request)
    path, query, headers = seen(request)
    claim = sigv2.claim_in_query(dict(query))
    sigv2.verify(claim, SECRET, "GET", path, query, headers)
    with pytest.raises(SignatureDoesNotMatch):
        sigv2.verify(claim, "another secret", "GET", path, query, headers)
    assert claim.expires_s is not None
    sigv2.check_time(claim, headers, claim.expires_s)
    with pytest.raises(AccessDenied):
        sigv2.check_time(claim, headers, claim.expires_s + 1)


def test_a_signed_request_needs_a_date_near_the_clock() -> None:
    claim = sigv2.Claim(KEY, "signature")
    sigv2.check_time(claim, {b"date": b"Thu, 01 Jan 1970 00:16:40 GMT"}, 1_000 + 899)
    with pytest.raises(RequestTimeTooSkewed):
        sigv2.check_time(claim, {b"date": b"Thu, 01 Jan 1970 00:16:40 GMT"}, 1_000 + 901)
    for missing in ({}, {b"date": b"yesterday"}):
        with pytest.raises(AccessDenied):
            sigv2.check_time(claim, missing, 1_000)


def test_what_cannot_be_a_claim_is_refused() -> None:
    for text in ("AWS", "AWS key", "AWS key:short", "AWS a b:" + "x" * 27 + "="):
        with pytest.raises(sigv2.AuthorizationHeaderMalformed):
            sigv2.claim_in_header(text)
    with pytest.raises(AccessDenied):
        sigv2.claim_in_query({"AWSAccessKeyId": "a", "Signature": "b", "Expires": "soon"})
