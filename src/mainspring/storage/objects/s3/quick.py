"""The commonest request, answered within one turn of the loop: a signed GET or HEAD of a small object by whoever owns all.

Here is only what is at hand: a key pair and a bucket that were looked up just now, no rule that has to be asked (policies,
lists, CORS, access logs), no header but those that change nothing (`PLAIN`), an object that is there. Everything else, every
refusal included, gives None and goes the door's usual way, so that there is one place for each rule. The signature is
verified and the row is read each time.
"""

from typing import Final

from mainspring.core.serve.heads import Head
from mainspring.storage.objects.at_hand import AtHand
from mainspring.storage.objects.s3 import headers
from mainspring.storage.objects.s3.access import is_plainly_allowed
from mainspring.storage.objects.s3.authentication import declared_sha256
from mainspring.storage.objects.s3.door import SERVER, Door
from mainspring.storage.objects.s3.errors import S3Error
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


class QuickReads:
    """What an `Http1Server` shows its requests to before it makes a task of them."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._reads = door.objects.small_reads
        self._clock = door.clock
        self._common = (door.id2, SERVER)

    def __call__(self, head: Head, _client: str) -> bytes | None:
        method, given = head.method, head.headers
        if head.query_string or method not in OPERATIONS or not given.keys() <= PLAIN:
            return None
        started_ns = self._clock.mono_ns()
        now_ns = self._clock.wall_ns()
        try:
            address = self._door.hosts.address(given[b"host"], head.raw_path)
            if not address.key or address.website or not self._is_allowed(head, address.bucket, now_ns / 1e9):
                return None
        except (AwsError, S3Error):
            return None
        found = self._reads.find(address.bucket, address.key)
        if found is None or found.object.sealed is not None:
            return None
        lines = self._lines(found, given.get(CHECKSUM_MODE, b"").upper() == b"ENABLED")
        body = b"" if method == "HEAD" else self._reads.body(found)
        if lines is None or body is None:
            return None
        date, request_id = headers.http_date(now_ns // 1_000_000_000), self._door.next_id().encode()
        self._door.observe(OPERATIONS[method], (self._clock.mono_ns() - started_ns) / 1e9)
        return b"HTTP/1.1 200 OK\r\ndate: %b\r\nx-amz-request-id: %b\r\n%b%b" % (date, request_id, lines, body)

    def _is_allowed(self, head: Head, bucket: str, now_s: float) -> bool:
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
        sigv4.verify(claim, credentials.secret, head.method, head.raw_path, (), given, hashed)
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
