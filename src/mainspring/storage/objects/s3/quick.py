"""The commonest requests, answered within one turn of the loop: a signed GET or HEAD of a small object, or a short listing.

Here is only what is at hand: a key pair and a bucket that were looked up just now, whose owner asks, no rule that has to be
asked (policies, lists, CORS, access logs), no header or field but those that are understood here (`PLAIN`, `LISTED`), an
object that is there, a page of few lines, a connection that goes on. Everything else, every refusal included, gives None
and goes the door's usual way, so that there is one place for each rule. The signature is verified and the rows are read
each time.
"""

from collections.abc import Sequence
from typing import Final

from mainspring.core.serve.heads import Head
from mainspring.storage.objects.at_hand import AtHand
from mainspring.storage.objects.errors import ObjectsError
from mainspring.storage.objects.s3 import headers
from mainspring.storage.objects.s3.access import is_plainly_allowed
from mainspring.storage.objects.s3.addressing import Address, fields
from mainspring.storage.objects.s3.answers import XML
from mainspring.storage.objects.s3.authentication import declared_sha256
from mainspring.storage.objects.s3.door import SERVER, Door
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.listings import Wanted, document_v2
from mainspring.wire.aws import sigv4
from mainspring.wire.aws.errors import AwsError

CHECKSUM_MODE: Final = b"x-amz-checksum-mode"
PLAIN: Final = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"amz-sdk-invocation-id",
        b"amz-sdk-request",
        b"authorization",
        b"cache-control",
        b"connection",
        b"content-length",
        b"content-type",
        b"host",
        b"user-agent",
        b"x-amz-content-sha256",
        b"x-amz-date",
        b"x-amz-user-agent",
        CHECKSUM_MODE,
    }
)
"""Headers that leave a GET what it is. (A checksum that is asked for is one more header of the answer.)"""
OPERATIONS: Final = {"GET": "GetObject", "HEAD": "HeadObject"}
LISTED: Final = frozenset(
    {"list-type", "prefix", "delimiter", "max-keys", "start-after", "encoding-type", "fetch-owner"}
)
"""Fields of a first page in the second version of the API."""

Pairs = Sequence[tuple[str, str]]


class QuickReads:
    """What an `Http1Server` shows its requests to before it makes a task of them."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._reads = door.objects.small_reads
        self._clock = door.clock
        self._paging = door.objects.paging
        self._common = (door.id2, SERVER)
        self._of_documents = b"".join(b"%b: %b\r\n" % one for one in (*self._common, (b"content-type", XML)))

    def __call__(self, head: Head, _client: str) -> bytes | None:
        method, given = head.method, head.headers
        if method not in OPERATIONS or head.closes or not given.keys() <= PLAIN:
            return None
        started_ns = self._clock.mono_ns()
        now_ns = self._clock.wall_ns()
        try:
            address = self._door.hosts.address(given[b"host"], head.raw_path)
            pairs = fields(head.query_string) if head.query_string else ()
            if address.website or not address.bucket:
                return None
            if address.key:
                answer, name = self._object(head, address, pairs, now_ns), OPERATIONS[method]
            else:
                answer, name = self._listing(head, address.bucket, pairs, now_ns), "ListObjectsV2"
        except (AwsError, ObjectsError, S3Error):
            return None
        if answer is None:
            return None
        date, request_id = headers.http_date(now_ns // 1_000_000_000), self._door.next_id().encode()
        self._door.observe(name, (self._clock.mono_ns() - started_ns) / 1e9)
        return b"HTTP/1.1 200 OK\r\ndate: %b\r\nx-amz-request-id: %b\r\n%b" % (date, request_id, answer)

    def _object(self, head: Head, address: Address, pairs: Pairs, now_ns: int) -> bytes | None:
        """The other headers and the body."""
        if pairs or not self._is_allowed(head, address.bucket, (), now_ns / 1e9):
            return None
        found = self._reads.find(address.bucket, address.key)
        if found is None or found.object.sealed is not None:
            return None
        lines = self._lines(found, head.headers.get(CHECKSUM_MODE, b"").upper() == b"ENABLED")
        body = b"" if head.method == "HEAD" else self._reads.body(found)
        return None if lines is None or body is None else lines + body

    def _listing(self, head: Head, bucket: str, pairs: Pairs, now_ns: int) -> bytes | None:
        query = dict(pairs)
        if head.method != "GET" or query.get("list-type") != "2" or not query.keys() <= LISTED:
            return None
        if not self._is_allowed(head, bucket, pairs, now_ns / 1e9):
            return None
        wanted = Wanted(query)
        after = query.get("start-after", "")
        page = self._paging.keys_at_once(bucket, wanted.prefix, wanted.delimiter, after, wanted.count)
        if page is None:
            return None
        body = document_v2(bucket, query, wanted, page, self._door.identities.names).encode("utf-8", "surrogateescape")
        return self._of_documents + b"content-length: %d\r\n\r\n" % len(body) + body

    def _is_allowed(self, head: Head, bucket: str, pairs: Pairs, now_s: float) -> bool:
        """Whether who signed may read all of the bucket, without a rule being asked. Raises what a wrong signature raises."""
        given, view = head.headers, self._door.buckets.remembered(bucket)
        authorization = given.get(b"authorization", b"").decode("latin-1")
        if view is None or not authorization.startswith(sigv4.ALGORITHM):
            return False
        claim = sigv4.claim_in_header(authorization, given.get(b"x-amz-date", b"").decode("latin-1"))
        sigv4.check_time(claim, now_s)
        credentials = self._door.identities.remembered(claim.scope.access_key)
        if credentials is None or claim.scope.service != "s3" or "logging" in view.documents:
            return False
        if not is_plainly_allowed(credentials.identity, view):
            return False
        hashed = declared_sha256(given, signed=True)
        sigv4.verify(claim, credentials.secret, head.method, head.raw_path, pairs, given, hashed)
        return True

    def _lines(self, found: AtHand, summed: bool) -> bytes | None:
        """The headers that are the same each time, kept beside the object; None where one cannot be written."""
        if found.shown is None:
            found.shown = {}
        lines: bytes | None = found.shown.get(summed)
        if lines is None:
            shown = [*headers.of_object(found.object, checksums=summed), *self._common]
            shown.append((b"content-length", b"%d" % found.object.size))
            lines = b"".join([*(b"%b: %b\r\n" % one for one in shown), b"\r\n"])
            if lines.count(b"\n") != len(shown) + 1 or lines.count(b"\r") != len(shown) + 1 or b"\0" in lines:
                return None
            found.shown[summed] = lines
        return lines
