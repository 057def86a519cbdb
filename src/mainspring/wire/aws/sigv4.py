"""AWS Signature Version 4 for requests: in the `Authorization` header, in the query (presigned URLs), and of a form's policy.

A request is written in one canonical form (method, path, query, signed headers, hash of the body), hashed, and signed with
a key that is derived from the secret for one day, region and service. Verifying is signing again and comparing in constant
time. Derived keys are remembered (the 10,000 used last), because deriving one costs four HMACs and a request only one.

Nothing here reads a clock, a database or a body: whoever calls says what time it is and which secret belongs to a key.
"""

import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

import msgspec

from mainspring.wire.aws.errors import (
    AccessDenied,
    AuthorizationHeaderMalformed,
    AuthorizationQueryParametersError,
    RequestTimeTooSkewed,
    SignatureDoesNotMatch,
)

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = sha256(b"").hexdigest()
SKEW_S_MAX = 15 * 60
PRESIGNED_S_DEFAULT = 3_600
PRESIGNED_S_MAX = 7 * 24 * 3600
DERIVED_KEYS_MAX = 10_000
SIGNED_HEADERS_MAX = 100

_UNRESERVED = re.compile(r"[A-Za-z0-9_.~-]*")
_PLAIN_PATH = re.compile(rb"[A-Za-z0-9/_.~-]*")
_CREDENTIAL = re.compile(r"([^/\s]{1,128})/([0-9]{8})/([A-Za-z0-9-]{1,64})/([a-z0-9.-]{1,64})/aws4_request")
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=([^,\s]{1,400})\s*,\s*SignedHeaders=([^,\s]{1,4096})\s*,\s*Signature=([0-9a-f]{64})"
)
_HEAD = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=([^,\s]{1,400})\s*,\s*SignedHeaders=([^,\s]{1,4096})\s*,\s*Signature="
)
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z")


class Scope(msgspec.Struct, frozen=True):
    """What a signature is good for: a key, a day (`YYYYMMDD`), a region and a service."""

    access_key: str
    day: str
    region: str
    service: str

    @property
    def text(self) -> str:
        return f"{self.day}/{self.region}/{self.service}/aws4_request"


class Claim(msgspec.Struct, frozen=True):
    """A signature as a request presents it, not believed yet.

    `date` is the request's own time as `YYYYMMDDTHHMMSSZ`; `signed_headers` are lower-case names in the signer's order;
    `expires_s` is None for one in the header. `token` is the security token of temporary credentials, or empty.
    """

    scope: Scope
    date: str
    signed_headers: tuple[str, ...]
    signature: str
    expires_s: int | None = None
    token: str = ""


class Seed(msgspec.Struct, frozen=True):
    """What a body in signed chunks goes on from: the signature of its request, and the key that made it."""

    key: bytes
    date: str
    scope: str
    signature: str


@lru_cache(maxsize=DERIVED_KEYS_MAX)
def derived_key(secret: str, day: str, region: str, service: str) -> bytes:
    """The key that signs one day's requests to one service in one region."""
    key = b"AWS4" + secret.encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@lru_cache(maxsize=DERIVED_KEYS_MAX)
def _scope(text: str) -> Scope | None:
    found = _CREDENTIAL.fullmatch(text)
    return Scope(*found.groups()) if found else None


@lru_cache(maxsize=1_000)
def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(";"))


class _Signed(NamedTuple):
    """Signed headers in the form in which requests are written: names as bytes, each with its colon, and the whole line."""

    names: frozenset[bytes]
    pairs: tuple[tuple[bytes, bytes], ...]
    line: bytes


@lru_cache(maxsize=1_000)
def _signed(names: tuple[str, ...]) -> _Signed:
    encoded = [name.encode("latin-1", "replace") for name in names]
    return _Signed(frozenset(encoded), tuple((name, name + b":") for name in encoded), b";".join(encoded))


def claim_in_header(authorization: str, date: str, token: str = "") -> Claim:
    """Reads an `Authorization` header; `date` is the request's `x-amz-date`. Raises `AuthorizationHeaderMalformed`,
    and `AccessDenied` for a date that cannot be one."""
    # Of one client's requests all but the signature is the same, mostly: it is read once.
    scope, names = _head(authorization[:-64])
    signature = authorization[-64:]
    if scope is None or not _SIGNATURE.fullmatch(signature):
        return _claim_in_odd_header(authorization, date, token)
    if not _is_date(date):
        raise AccessDenied("AWS authentication requires a valid Date or x-amz-date header")
    if date[:8] != scope.day:
        raise AuthorizationHeaderMalformed("The day of the Credential is not that of x-amz-date")
    return Claim(scope, date, names, signature, None, token)


def _claim_in_odd_header(authorization: str, date: str, token: str) -> Claim:
    """A header that is written in another order of spaces, or wrongly."""
    found = _AUTHORIZATION.fullmatch(authorization.strip())
    if found is None:
        raise AuthorizationHeaderMalformed("It needs Credential, SignedHeaders and Signature, with AWS4-HMAC-SHA256")
    if _scope(found[1]) is None:
        raise AuthorizationHeaderMalformed("The Credential is KEY/YYYYMMDD/REGION/SERVICE/aws4_request")
    whole = f"{ALGORITHM} Credential={found[1]},SignedHeaders={found[2]},Signature={found[3]}"
    return claim_in_header(whole, date, token)


@lru_cache(maxsize=DERIVED_KEYS_MAX)
def _head(text: str) -> tuple[Scope | None, tuple[str, ...]]:
    """What stands before the signature; no scope where that is none."""
    found = _HEAD.fullmatch(text)
    return (_scope(found[1]), _names(found[2])) if found else (None, ())


@lru_cache(maxsize=1_000)
def _is_date(text: str) -> bool:
    return _DATE.fullmatch(text) is not None


def claim_in_query(fields: Mapping[str, str]) -> Claim:
    """Reads the fields of a presigned URL. Raises `AuthorizationQueryParametersError`."""
    if fields.get("X-Amz-Algorithm") != ALGORITHM:
        raise AuthorizationQueryParametersError('X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"')
    scope = _scope(fields.get("X-Amz-Credential", ""))
    if scope is None:
        raise AuthorizationQueryParametersError("X-Amz-Credential is KEY/YYYYMMDD/REGION/SERVICE/aws4_request")
    date = fields.get("X-Amz-Date", "")
    if not _DATE.fullmatch(date) or date[:8] != scope.day:
        raise AuthorizationQueryParametersError(
            "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""
        )
    expires = fields.get("X-Amz-Expires", str(PRESIGNED_S_DEFAULT))
    if not re.fullmatch(r"[0-9]{1,9}", expires) or not 0 <= int(expires) <= PRESIGNED_S_MAX:
        raise AuthorizationQueryParametersError(f"X-Amz-Expires must be between 0 and {PRESIGNED_S_MAX} seconds")
    signature = fields.get("X-Amz-Signature", "")
    if not re.fullmatch(r"[0-9a-f]{64}", signature):
        raise AuthorizationQueryParametersError("X-Amz-Signature is missing or no signature")
    names = _names(fields.get("X-Amz-SignedHeaders", ""))
    return Claim(scope, date, names, signature, int(expires), fields.get("X-Amz-Security-Token", ""))


def check_time(claim: Claim, now_s: float) -> None:
    """Raises `RequestTimeTooSkewed`, or `AccessDenied` for a presigned URL that is not valid now."""
    at_s = seconds_of(claim.date)
    if claim.expires_s is None:
        if abs(now_s - at_s) > SKEW_S_MAX:
            raise RequestTimeTooSkewed
    elif now_s > at_s + claim.expires_s:
        raise AccessDenied("Request has expired")
    elif at_s > now_s + SKEW_S_MAX:
        raise AccessDenied("Request is not valid yet")


def verify(
    claim: Claim,
    secret: str,
    method: str,
    raw_path: bytes,
    query: Sequence[tuple[str, str]],
    headers: Mapping[bytes, bytes],
    body_sha256: str,
) -> Seed:
    """Believes a claim or raises `SignatureDoesNotMatch`; gives what a body in chunks goes on from.

    `raw_path` is undecoded, `query` the decoded fields, `headers` have lower-case names. Every `x-amz-*` header that came
    must be signed, and `host`: raises `AccessDenied`.
    """
    names = claim.signed_headers
    _must_sign(names, headers)
    canonical = canonical_request(method, raw_path, query, headers, names, body_sha256)
    scope = claim.scope
    key = derived_key(secret, scope.day, scope.region, scope.service)
    signature = sign(key, claim.date, scope.text, canonical)
    if not hmac.compare_digest(signature, claim.signature):
        raise SignatureDoesNotMatch
    return Seed(key, claim.date, scope.text, signature)


def _must_sign(names: tuple[str, ...], headers: Mapping[bytes, bytes]) -> None:
    signed = _signed(names).names
    if b"host" not in signed or len(signed) > SIGNED_HEADERS_MAX:
        raise AccessDenied("The signed headers must contain host")
    for name in headers:
        if name not in signed and name.startswith(b"x-amz-"):
            raise AccessDenied(
                f"There were headers present in the request which were not signed: {name.decode('latin-1')}"
            )


def canonical_request(
    method: str,
    raw_path: bytes,
    query: Sequence[tuple[str, str]],
    headers: Mapping[bytes, bytes],
    signed: tuple[str, ...],
    body_sha256: str,
) -> bytes:
    """The one form in which signer and verifier write a request. The query's own signature is left out."""
    form = _signed(signed)
    lines = [method.encode(), canonical_path(raw_path), canonical_query(query).encode() if query else b""]
    for name, colon in form.pairs:
        value = headers.get(name, b"").strip()
        lines.append(colon + (b" ".join(value.split()) if b"  " in value else value))
    lines += (b"", form.line, body_sha256.encode("latin-1", "replace"))
    return b"\n".join(lines)


def canonical_path(raw_path: bytes) -> bytes:
    """The path with every byte escaped that is not unreserved, whatever the client chose to escape."""
    if _PLAIN_PATH.fullmatch(raw_path):
        return raw_path or b"/"
    return quote_from_bytes(unquote_to_bytes(raw_path), safe="/~").encode()


def canonical_query(fields: Sequence[tuple[str, str]]) -> str:
    """The fields escaped and in order, without `X-Amz-Signature`."""
    escaped = [(_escaped(name), _escaped(value)) for name, value in fields if name != "X-Amz-Signature"]
    return "&".join([f"{name}={value}" for name, value in sorted(escaped)])


def _escaped(text: str) -> str:
    return text if _UNRESERVED.fullmatch(text) else quote(text, safe="~", errors="surrogateescape")


def sign(key: bytes, date: str, scope: str, canonical: bytes) -> str:
    """The signature of a canonical request."""
    text = f"{ALGORITHM}\n{date}\n{scope}\n{sha256(canonical).hexdigest()}"
    return hmac.digest(key, text.encode(), "sha256").hex()


def sign_policy(secret: str, scope: Scope, policy_base64: str) -> str:
    """The signature of a POST form's policy, which is signed as it stands."""
    key = derived_key(secret, scope.day, scope.region, scope.service)
    return hmac.digest(key, policy_base64.encode("utf-8", "surrogateescape"), "sha256").hex()


def read_scope(credential: str) -> Scope | None:
    """`KEY/YYYYMMDD/REGION/SERVICE/aws4_request`, or None for what is not one."""
    return _scope(credential)


def presign(
    method: str,
    host: str,
    path: str,
    scope: Scope,
    secret: str,
    at_s: float,
    expires_s: int = PRESIGNED_S_DEFAULT,
    query: Sequence[tuple[str, str]] = (),
    token: str = "",
) -> str:
    """The path and query of a URL that anybody may use until it expires. `path` is escaped; `host` as it will be sent."""
    date = date_of(at_s)
    fields = [
        *query,
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", f"{scope.access_key}/{scope.text}"),
        ("X-Amz-Date", date),
        ("X-Amz-Expires", str(expires_s)),
        ("X-Amz-SignedHeaders", "host"),
    ]
    if token:
        fields.append(("X-Amz-Security-Token", token))
    canonical = canonical_request(method, path.encode(), fields, {b"host": host.encode()}, ("host",), UNSIGNED)
    key = derived_key(secret, scope.day, scope.region, scope.service)
    signature = sign(key, date, scope.text, canonical)
    return f"{path}?{canonical_query(fields)}&X-Amz-Signature={signature}"


def authorize(
    method: str,
    raw_path: str,
    query: Sequence[tuple[str, str]],
    headers: Mapping[str, str],
    scope: Scope,
    secret: str,
    at_s: float,
    body_sha256: str,
) -> dict[str, str]:
    """`headers` (lower-case names, `host` among them) with the date, the body's hash and the signature added."""
    date = date_of(at_s)
    signed = {**headers, "x-amz-date": date, "x-amz-content-sha256": body_sha256}
    names = tuple(sorted(signed))
    encoded = {name.encode(): value.encode() for name, value in signed.items()}
    canonical = canonical_request(method, raw_path.encode(), query, encoded, names, body_sha256)
    key = derived_key(secret, scope.day, scope.region, scope.service)
    signature = sign(key, date, scope.text, canonical)
    credential = f"{scope.access_key}/{scope.text}"
    signed["authorization"] = (
        f"{ALGORITHM} Credential={credential},SignedHeaders={';'.join(names)},Signature={signature}"
    )
    return signed


@lru_cache(maxsize=1_000)
def seconds_of(date: str) -> float:
    """`YYYYMMDDTHHMMSSZ` as Unix seconds; minus infinity for a date that does not exist."""
    try:
        return datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return float("-inf")


def date_of(at_s: float) -> str:
    """Unix seconds as `YYYYMMDDTHHMMSSZ`."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y%m%dT%H%M%SZ")
