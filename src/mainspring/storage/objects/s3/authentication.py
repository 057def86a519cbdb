"""From a request to its caller: the signature in its header or its query, verified, or nobody.

What a signature says of the body is kept on the call: the hash that the content must have, and the seed from which chunks
go on.
"""

import re
from email.utils import parsedate_to_datetime

from mainspring.storage.objects.s3.call import Call
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.wire.aws import sigv2, sigv4
from mainspring.wire.aws.chunked import FORMS
from mainspring.wire.aws.errors import AccessDenied, AuthorizationHeaderMalformed

_HASH = re.compile(r"[0-9a-f]{64}")


async def authenticate(call: Call, service: str = "s3") -> None:
    """Sets the caller's identity. Raises the `AwsError` that says why a signature is not accepted."""
    headers = call.headers
    authorization = headers.get(b"authorization")
    if authorization is not None:
        text = authorization.decode("latin-1")
        if text.startswith(sigv2.PREFIX) and call.door.signature_v2:
            await _verify_v2(call, sigv2.claim_in_header(text, _text(headers, b"x-amz-security-token")), "header")
            return
        if not text.startswith(sigv4.ALGORITHM):
            raise S3Error(
                "InvalidRequest",
                "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
            )
        claim = sigv4.claim_in_header(text, _date(headers), _text(headers, b"x-amz-security-token"))
        call.signed_by = "header"
    elif "X-Amz-Signature" in call.query or "X-Amz-Algorithm" in call.query:
        claim = sigv4.claim_in_query(call.query)
        call.signed_by = "query"
    elif "AWSAccessKeyId" in call.query and "Signature" in call.query:
        if not call.door.signature_v2:
            raise S3Error("InvalidRequest", "Signature Version 2 is switched off here. Please use AWS4-HMAC-SHA256.")
        await _verify_v2(call, sigv2.claim_in_query(call.query), "query")
        return
    else:
        call.body_sha256 = declared_sha256(headers, signed=False)
        return
    if claim.scope.service != service:
        raise AuthorizationHeaderMalformed(f"The Credential's service is not {service}")
    now_s = call.door.clock.wall_ns() / 1e9
    sigv4.check_time(claim, now_s)
    identities, access_key = call.door.identities, claim.scope.access_key
    credentials = None if claim.token else identities.remembered(access_key)
    if credentials is None:
        credentials = await identities.find(access_key, claim.token)
    hashed = declared_sha256(headers, signed=claim.expires_s is None)
    call.seed = sigv4.verify(
        claim, credentials.secret, call.method, call.raw_path, call.query_pairs, headers, hashed or sigv4.UNSIGNED
    )
    call.body_sha256 = hashed
    call.identity = credentials.identity
    if claim.expires_s is not None:
        call.signature_age_ms = max(0, int((now_s - sigv4.seconds_of(claim.date)) * 1000))


async def _verify_v2(call: Call, claim: sigv2.Claim, where: str) -> None:
    now_s = call.door.clock.wall_ns() / 1e9
    sigv2.check_time(claim, call.headers, now_s)
    credentials = await call.door.identities.find(claim.access_key, claim.token)
    resource = b"/" + call.bucket.encode() + call.raw_path if call.address.virtual else call.raw_path
    sigv2.verify(claim, credentials.secret, call.method, resource, call.query_pairs, call.headers)
    call.body_sha256 = declared_sha256(call.headers, signed=False)
    call.identity, call.signed_by = credentials.identity, where


def declared_sha256(headers: dict[bytes, bytes], *, signed: bool) -> str:
    """What `x-amz-content-sha256` says; empty where it may be missing. Raises `InvalidArgument`, `MissingSecurityHeader`."""
    declared = _text(headers, b"x-amz-content-sha256")
    if declared == sigv4.UNSIGNED:
        return declared
    if not declared:
        if signed:
            raise S3Error("MissingSecurityHeader", MissingHeaderName="x-amz-content-sha256")
        return ""
    if declared in FORMS or _HASH.fullmatch(declared):
        if not signed and declared in FORMS and declared != "STREAMING-UNSIGNED-PAYLOAD-TRAILER":
            raise AccessDenied("A body in signed chunks needs a signed request")
        return declared
    raise S3Error(
        "InvalidArgument",
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
        ArgumentName="x-amz-content-sha256",
        ArgumentValue=declared[:100],
    )


def _date(headers: dict[bytes, bytes]) -> str:
    date = _text(headers, b"x-amz-date")
    if date or b"date" not in headers:
        return date
    try:
        return parsedate_to_datetime(_text(headers, b"date")).strftime("%Y%m%dT%H%M%SZ")
    except ValueError:
        return ""


def _text(headers: dict[bytes, bytes], name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1")
