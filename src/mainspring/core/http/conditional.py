"""Conditional requests (RFC 9110, section 13): an answer that the client already has, a change it has not seen.

An ETag here is strong. The compression of `manners` gives its bytes a tag of their own by the suffix `-gzip`, which is
taken off again before tags are compared.
"""

from hashlib import blake2b

from mainspring.core.http.request import Request
from mainspring.core.http.response import Response
from mainspring.core.problems import PreconditionFailed, Problem

GZIPPED = b'-gzip"'


class PreconditionRequired(Problem):
    status, type, title = 428, "core/precondition-required", "Say by If-Match which version you have read"


def etag_of(content: bytes) -> bytes:
    """A strong ETag, quotes and all, of bytes that are sent or of whatever names their version."""
    return b'"' + blake2b(content, digest_size=12).hexdigest().encode() + b'"'


def answer(request: Request, response: Response, etag: bytes | None = None) -> Response:
    """`response` with its ETag (of its body, unless given), or a 304 where a GET names that it has it."""
    tag = etag if etag is not None else etag_of(response.body)
    wanted = request.headers.get(b"if-none-match")
    if wanted is not None and request.method in ("GET", "HEAD") and _matches(wanted, tag, weak=True):
        kept = [header for header in response.headers if header[0] in (b"cache-control", b"vary", b"expires")]
        return Response(304, headers=[*kept, (b"etag", tag)])
    response.headers.append((b"etag", tag))
    return response


def check(request: Request, etag: bytes | None) -> None:
    """Before a change: raises `PreconditionFailed` unless `If-Match` and `If-None-Match` agree with what is there.

    `etag` is the present one, None where there is nothing.
    """
    expected = request.headers.get(b"if-match")
    refused = request.headers.get(b"if-none-match")
    if expected is not None and not _matches(expected, etag, weak=False):
        raise PreconditionFailed
    if refused is not None and _matches(refused, etag, weak=True):
        raise PreconditionFailed


def require(request: Request, etag: bytes | None) -> None:
    """Like `check`, and raises `PreconditionRequired` where the request names no condition."""
    if b"if-match" not in request.headers and b"if-none-match" not in request.headers:
        raise PreconditionRequired
    check(request, etag)


def _matches(header: bytes, etag: bytes | None, *, weak: bool) -> bool:
    if etag is None:
        return False
    if header.strip() == b"*":
        return True
    for tag in header.split(b","):
        tag = tag.strip()
        if weak:
            tag = tag.removeprefix(b"W/")
        if tag.endswith(GZIPPED):
            tag = tag[: -len(GZIPPED)] + b'"'
        if tag == etag:
            return True
    return False
