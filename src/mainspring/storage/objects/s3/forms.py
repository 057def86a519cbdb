"""Uploads by a browser's form: the fields are held against the policy that was signed for them, then the file is stored."""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hmac import compare_digest
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from mainspring.core.http.request import Disconnected
from mainspring.storage.objects.s3 import access, headers
from mainspring.storage.objects.s3.answers import Answer, Header, xml
from mainspring.storage.objects.s3.call import Call
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.form_reading import FormReader, boundary_of
from mainspring.storage.objects.s3.identity import Credentials
from mainspring.storage.objects.s3.routing import Operation
from mainspring.storage.objects.s3.tagging import tags_in_document
from mainspring.storage.objects.s3.wishes import wish_of
from mainspring.storage.objects.s3.writes import of_made
from mainspring.storage.objects.s3.xml import HEAD, Malformed, element, parse
from mainspring.wire.aws import sigv2, sigv4
from mainspring.wire.aws.errors import AccessDenied, IncompleteBody, SignatureDoesNotMatch

FILE_BYTES_MAX = 5 << 30
NOT_IN_POLICY = frozenset(
    {
        "x-amz-signature",
        "file",
        "policy",
        "awsaccesskeyid",
        "signature",
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
    }
)


def is_form(call: Call) -> bool:
    return call.headers.get(b"content-type", b"").lower().startswith(b"multipart/form-data")


async def post(call: Call) -> Answer:
    """Stores the file of a form."""
    call.operation = Operation("PostObject", "s3:PutObject", post)
    call.view = view = await call.door.buckets.view(call.bucket)
    reader = FormReader(boundary_of(call.headers[b"content-type"].decode("latin-1")))
    first = await _until_file(call, reader)
    fields = reader.fields
    key = fields.get("key", "")
    if not key:
        raise S3Error("InvalidArgument", "Bucket POST must contain a field named 'key'.", ArgumentName="key")
    call.key = key = key.replace("${filename}", reader.filename.replace("\\", "/").rpartition("/")[2])
    least, most = await _authorize(call, fields)
    # What a form says by fields, other uploads say by headers.
    call.headers = {
        **{
            name.encode(): value.encode()
            for name, value in fields.items()
            if name.startswith("x-amz-") or name in headers.KEPT
        },
        b"host": call.headers.get(b"host", b""),
        b"origin": call.headers.get(b"origin", b""),
    }
    if "acl" in fields:
        call.headers[b"x-amz-acl"] = fields["acl"].encode()
    access.check(call, "s3:PutObject", key)
    wish = wish_of(call, None, event="ObjectCreated:Post")
    if tags := _tags(fields.get("tagging")):
        access.check(call, "s3:PutObjectTagging", key)
        wish.tags = tags
    made = await call.objects.put(call.bucket, key, _file(call, reader, first, least, most), wish=wish)
    return _answer(call, fields, of_made(made, view), made.etag)


async def _until_file(call: Call, reader: FormReader) -> bytes:
    """Reads the fields; gives what has arrived of the file."""
    while True:
        piece, more = await _piece(call)
        first = reader.feed(piece)
        if reader.in_file:
            return first
        if not more:
            raise S3Error("InvalidArgument", "POST requires exactly one file upload per request.", ArgumentName="file")


async def _piece(call: Call) -> tuple[bytes, bool]:
    message = await call.body._message()
    if message["type"] != "http.request":
        raise Disconnected
    return message.get("body", b""), message.get("more_body", False)


async def _file(call: Call, reader: FormReader, first: bytes, least: int, most: int) -> AsyncIterator[bytes]:
    """The file, within the policy's bounds. Raises `EntityTooSmall`, `EntityTooLarge`, `IncompleteBody`."""
    size, piece = 0, first
    while True:
        size += len(piece)
        if size > most:
            raise S3Error("EntityTooLarge", ProposedSize=size, MaxSizeAllowed=most)
        if piece:
            yield piece
        if reader.finished:
            break
        data, more = await _piece(call)
        piece = reader.feed(data)
        if not more and not reader.finished:
            raise IncompleteBody
    if size < least:
        raise S3Error("EntityTooSmall", ProposedSize=size, MinSizeAllowed=least)


async def _authorize(call: Call, fields: dict[str, str]) -> tuple[int, int]:
    """Believes the policy's signature and holds the fields against it; gives the least and greatest size of the file.

    A form without a policy is an anonymous upload. Raises `AccessDenied`, `SignatureDoesNotMatch`, `InvalidPolicyDocument`.
    """
    policy = fields.get("policy")
    if policy is None:
        return 0, FILE_BYTES_MAX
    if "awsaccesskeyid" in fields and call.door.signature_v2:
        credentials = await call.door.identities.find(fields["awsaccesskeyid"], fields.get("x-amz-security-token", ""))
        expected = sigv2.sign(credentials.secret, policy.encode("utf-8", "surrogateescape"))
        given = fields.get("signature", "")
        return _believed(call, fields, policy, credentials, compare_digest(expected.encode(), given.encode()))
    if fields.get("x-amz-algorithm") != sigv4.ALGORITHM:
        raise S3Error("InvalidRequest", "The form must be signed with AWS4-HMAC-SHA256")
    scope = sigv4.read_scope(fields.get("x-amz-credential", ""))
    if scope is None or scope.service != "s3":
        raise S3Error("InvalidArgument", ArgumentName="x-amz-credential")
    credentials = await call.door.identities.find(scope.access_key, fields.get("x-amz-security-token", ""))
    expected = sigv4.sign_policy(credentials.secret, scope, policy)
    given = fields.get("x-amz-signature", "")
    return _believed(call, fields, policy, credentials, compare_digest(expected.encode(), given.encode()))


def _believed(
    call: Call, fields: dict[str, str], policy: str, credentials: Credentials, matches: bool
) -> tuple[int, int]:
    if not matches:
        raise SignatureDoesNotMatch
    call.identity, call.signed_by = credentials.identity, "form"
    return _held(call, fields, _document(policy))


def _document(policy: str) -> dict[str, Any]:
    try:
        read = msgspec.json.decode(b64decode(policy))
    except (Base64Error, ValueError, msgspec.DecodeError, RecursionError):
        raise S3Error("InvalidPolicyDocument", "Invalid Policy: Invalid JSON.") from None
    if not isinstance(read, dict) or not isinstance(read.get("conditions"), list):
        raise S3Error("InvalidPolicyDocument", "Invalid Policy: Policy missing conditions.")
    return read


def _held(call: Call, fields: dict[str, str], policy: dict[str, Any]) -> tuple[int, int]:
    try:
        ends = datetime.fromisoformat(str(policy.get("expiration")))
    except ValueError:
        raise S3Error("InvalidPolicyDocument", "Invalid Policy: Policy missing expiration.") from None
    if (ends if ends.tzinfo else ends.replace(tzinfo=UTC)).timestamp() < call.door.clock.wall_ns() / 1e9:
        raise AccessDenied("Invalid according to Policy: Policy expired.")
    values = {**fields, "key": call.key, "bucket": call.bucket}
    named = set(NOT_IN_POLICY)
    least, most = 0, FILE_BYTES_MAX
    for condition in policy["conditions"]:
        if isinstance(condition, dict) and len(condition) == 1:
            (name, wanted), operator = next(iter(condition.items())), "eq"
        elif isinstance(condition, list) and len(condition) == 3:
            operator, name, wanted = str(condition[0]).lower(), condition[1], condition[2]
        else:
            raise S3Error("InvalidPolicyDocument", "Invalid Policy: Invalid condition.")
        if operator == "content-length-range":
            if not isinstance(name, int) or not isinstance(wanted, int):
                raise S3Error("InvalidPolicyDocument", "Invalid Policy: Invalid content-length-range.")
            least, most = max(least, name), min(most, wanted)
            continue
        name = str(name).removeprefix("$").lower()
        named.add(name)
        if not _holds(operator, name, values.get(name, ""), str(wanted)):
            raise AccessDenied(f"Invalid according to Policy: Policy Condition failed: {operator} on {name}")
    for name in fields:
        if name not in named and not name.startswith("x-ignore-"):
            raise AccessDenied(f"Invalid according to Policy: Extra input fields: {name[:100]}")
    if "bucket" not in named:
        raise AccessDenied("Invalid according to Policy: Policy Condition failed: bucket is not named")
    return least, most


def _holds(operator: str, name: str, value: str, wanted: str) -> bool:
    if operator == "eq":
        return value == wanted
    if operator == "starts-with":
        if name == "content-type":
            return all(one.strip().startswith(wanted) for one in value.split(","))
        return value.startswith(wanted)
    raise S3Error("InvalidPolicyDocument", "Invalid Policy: Invalid condition operator.")


def _tags(text: str | None) -> dict[str, str] | None:
    if not text:
        return None
    try:
        return tags_in_document(parse(text.encode(), "Tagging"), 10)
    except Malformed as error:
        raise S3Error("MalformedXML", str(error)) from None


def _answer(call: Call, fields: dict[str, str], shown: list[Header], etag: str) -> Answer:
    """What the form asked to get: a redirect, a status, or the default 204."""
    redirect = fields.get("success_action_redirect") or fields.get("redirect")
    if redirect and redirect.startswith(("http://", "https://")):
        more = urlencode({"bucket": call.bucket, "key": call.key, "etag": f'"{etag}"'})
        target = f"{redirect}{'&' if '?' in redirect else '?'}{more}"
        return Answer(303, [*shown, (b"location", headers.encoded(target))])
    host = call.header(b"host") or ""
    path = quote(call.key, safe="/~") if call.address.virtual else f"{call.bucket}/{quote(call.key, safe='/~')}"
    location = f"{'https' if call.secure else 'http'}://{host}/{path}"
    shown = [*shown, (b"location", headers.encoded(location))]
    if fields.get("success_action_status") == "201":
        inner = element("Location", location) + element("Bucket", call.bucket) + element("Key", call.key)
        inner += element("ETag", f'"{etag}"')
        return xml(f"{HEAD}<PostResponse>{inner}</PostResponse>", 201, shown)
    return Answer(200 if fields.get("success_action_status") == "200" else 204, shown)
