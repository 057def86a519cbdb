"""AWS Signature Version 2 for S3: older than Version 4, and still what boto3 and the AWS command line presign URLs with.

A request's method, date and headers of Amazon's, and the resource it names, are written line by line and signed with HMAC-SHA1
of the secret itself. It covers neither the host nor the body, and its key is the same every day: whoever has a choice takes
Version 4 (`sigv4`).
"""

import hmac
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime

import msgspec

from mainspring.wire.aws.errors import (
    AccessDenied,
    AuthorizationHeaderMalformed,
    RequestTimeTooSkewed,
    SignatureDoesNotMatch,
)
from mainspring.wire.aws.sigv4 import SKEW_S_MAX

PREFIX = "AWS "
SUBRESOURCES = frozenset(
    {
        "accelerate", "acl", "analytics", "cors", "defaultObjectAcl", "delete", "inventory", "lifecycle", "location", "logging",
        "metrics", "notification", "object-lock", "partNumber", "policy", "replication", "requestPayment",
        "response-cache-control", "response-content-disposition", "response-content-encoding", "response-content-language",
        "response-content-type", "response-expires", "restore", "select", "select-type", "storageClass", "tagging", "torrent",
        "uploadId", "uploads", "versionId", "versioning", "versions", "website",
    }
)  # fmt: skip
"""The fields of a query that name what is asked for, and are signed."""

_AUTHORIZATION = re.compile(r"AWS ([^:\s]{1,128}):([A-Za-z0-9+/]{27}=)")
_EXPIRES = re.compile(r"[0-9]{1,12}")


class Claim(msgspec.Struct, frozen=True):
    """A signature as a request presents it. `expires_s` is the Unix time at which a presigned URL ends, None in a header."""

    access_key: str
    signature: str
    expires_s: int | None = None
    token: str = ""


def claim_in_header(authorization: str, token: str = "") -> Claim:
    """Reads an `Authorization` header. Raises `AuthorizationHeaderMalformed`."""
    found = _AUTHORIZATION.fullmatch(authorization.strip())
    if found is None:
        raise AuthorizationHeaderMalformed("It is AWS, a key, a colon and a signature")
    return Claim(found[1], found[2], None, token)


def claim_in_query(fields: Mapping[str, str]) -> Claim:
    """Reads the fields of a presigned URL. Raises `AccessDenied`."""
    expires = fields.get("Expires", "")
    if not _EXPIRES.fullmatch(expires):
        raise AccessDenied("Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters")
    token = fields.get("x-amz-security-token", "")
    return Claim(fields["AWSAccessKeyId"], fields["Signature"], int(expires), token)


def check_time(claim: Claim, headers: Mapping[bytes, bytes], now_s: float) -> None:
    """Raises `RequestTimeTooSkewed`, and `AccessDenied` for a URL that has expired or a request without a date."""
    if claim.expires_s is not None:
        if now_s > claim.expires_s:
            raise AccessDenied("Request has expired")
        return
    date = (headers.get(b"x-amz-date") or headers.get(b"date", b"")).decode("latin-1")
    try:
        at_s = parsedate_to_datetime(date).timestamp()
    except ValueError:
        raise AccessDenied("AWS authentication requires a valid Date or x-amz-date header") from None
    if abs(now_s - at_s) > SKEW_S_MAX:
        raise RequestTimeTooSkewed


def verify(
    claim: Claim,
    secret: str,
    method: str,
    resource: bytes,
    query: Sequence[tuple[str, str]],
    headers: Mapping[bytes, bytes],
) -> None:
    """Believes a claim or raises `SignatureDoesNotMatch`.

    `resource` is the undecoded path, with the bucket in front where the host names it.
    """
    text = string_to_sign(claim, method, resource, query, headers)
    if not hmac.compare_digest(sign(secret, text), claim.signature.encode("ascii", "replace").decode()):
        raise SignatureDoesNotMatch


def string_to_sign(
    claim: Claim, method: str, resource: bytes, query: Sequence[tuple[str, str]], headers: Mapping[bytes, bytes]
) -> bytes:
    """What is signed. In a presigned URL Amazon's headers may stand in the query."""
    said = {name.decode("latin-1"): value.decode("utf-8", "surrogateescape") for name, value in headers.items()}
    if claim.expires_s is not None:
        said |= {
            name: value for name, value in query if name.startswith("x-amz-") or name in ("content-md5", "content-type")
        }
        date = str(claim.expires_s)
    else:
        date = "" if "x-amz-date" in said else said.get("date", "")
    lines = [method, said.get("content-md5", ""), said.get("content-type", ""), date]
    lines += [f"{name}:{said[name].strip()}" for name in sorted(said) if name.startswith("x-amz-")]
    asked = sorted((name, value) for name, value in query if name in SUBRESOURCES)
    path = resource.decode("latin-1")
    if asked:
        path += "?" + "&".join(f"{name}={value}" if value else name for name, value in asked)
    return "\n".join([*lines, path]).encode("utf-8", "surrogateescape")


def sign(secret: str, text: bytes) -> str:
    """The signature of a string, or of a form's policy as it stands."""
    return b64encode(hmac.digest(secret.encode(), text, "sha1")).decode()
