"""Server access logging: one line for each request to a bucket whose owner asked for it, delivered as objects.

Lines are gathered in memory, in Amazon's format, and put into the target bucket every minute or 256 KiB; delivery is best
effort, as S3 says of its own. At most 8 MiB wait; beyond that the oldest lines of a target are dropped and counted.
"""

import asyncio
import logging
import secrets
from collections import deque
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, NamedTuple

from mainspring.core.clock import Clock
from mainspring.core.problems import Problem
from mainspring.storage.objects.s3 import logging_rules
from mainspring.storage.objects.s3.logging_rules import EVENT_TIME, Target
from mainspring.storage.objects.service import Objects

if TYPE_CHECKING:
    from mainspring.storage.objects.s3.answers import Answer
    from mainspring.storage.objects.s3.call import Call

log = logging.getLogger(__name__)

FLUSH_S = 60.0
FLUSH_BYTES = 256 << 10
WAITING_BYTES_MAX = 8 << 20


class Place(NamedTuple):
    """Which lines belong into one log object: those of one bucket and target, and of one `day` where its folders tell it."""

    bucket: str
    owner: str
    account: str
    region: str
    target: Target
    day: date | None


class AccessLog:
    """`note` is called for each request; `flush` delivers what waits."""

    def __init__(self, objects: Objects, clock: Clock) -> None:
        self.dropped = 0
        self._objects = objects
        self._clock = clock
        self._lines: dict[Place, deque[str]] = {}
        self._bytes = 0
        self._flushing: asyncio.Task[None] | None = None

    def note(self, call: "Call", answer: "Answer", code: str, sent_bytes: int, seconds: float) -> None:
        view = call.view
        assert view is not None
        target = logging_rules.of_document(view.documents["logging"])
        if target is None:
            return
        now_ns = self._clock.wall_ns()
        line = _line(call, answer, code, sent_bytes, seconds, now_ns)
        day = datetime.fromtimestamp(now_ns / 1e9, UTC).date() if target.partitioned == EVENT_TIME else None
        account = call.door.identities.account_of(view.owner)
        place = Place(view.name, view.owner, account, call.door.region, target, day)
        lines = self._lines.setdefault(place, deque())
        lines.append(line)
        self._bytes += len(line)
        while self._bytes > WAITING_BYTES_MAX and lines:
            self._bytes -= len(lines.popleft())
            self.dropped += 1
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._later(), name="delivery of access logs")

    async def flush(self) -> None:
        """Puts every line that waits into its target bucket."""
        waiting, self._lines, self._bytes = self._lines, {}, 0
        for place, lines in waiting.items():
            if not lines:
                continue
            key = key_of(place, datetime.fromtimestamp(self._clock.wall_ns() / 1e9, UTC))
            body, headers = "".join(lines).encode(), {"content-type": "text/plain"}
            try:
                await self._objects.put(place.target.bucket, key, body, headers=headers, owner=place.owner)
            except Problem as problem:
                self.dropped += len(lines)
                log.warning("the access log of %s could not be delivered: %s", place.bucket, problem)

    async def stop(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)
        await self.flush()

    async def _later(self) -> None:
        waited = 0.0
        while waited < FLUSH_S and self._bytes < FLUSH_BYTES:
            await self._clock.sleep(1.0)
            waited += 1.0
        await self.flush()


def key_of(place: Place, now: datetime) -> str:
    """The key of a log object in either format. Folders of the events' own day say nothing of the hour, as S3 has it."""
    target, unique = place.target, secrets.token_hex(8).upper()
    if not target.partitioned:
        return f"{target.prefix}{now:%Y-%m-%d-%H-%M-%S}-{unique}"
    moment = now if place.day is None else datetime.combine(place.day, time())
    folders = f"{place.account}/{place.region}/{place.bucket}/{moment:%Y/%m/%d}"
    return f"{target.prefix}{folders}/{moment:%Y-%m-%d-%H-%M-%S}-{unique}"


def _line(call: "Call", answer: "Answer", code: str, sent_bytes: int, seconds: float, wall_ns: int) -> str:
    view, operation = call.view, call.operation
    assert view is not None
    at = datetime.fromtimestamp(wall_ns / 1e9, UTC).strftime("[%d/%b/%Y:%H:%M:%S +0000]")
    level = "OBJECT" if call.key else "BUCKET"
    name = operation.name if operation is not None else "-"
    query = call.scope["query_string"].decode("latin-1")
    uri = f"{call.method} {call.raw_path.decode('latin-1')}{'?' + query if query else ''} HTTP/1.1"
    milliseconds = round(seconds * 1000)
    signed = {"header": "AuthHeader", "query": "QueryString", "form": "AuthHeader"}.get(call.signed_by, "-")
    fields = [
        view.owner,
        view.name,
        at,
        call.client or "-",
        call.identity.session_arn or call.identity.id or "-",
        call.request_id,
        f"REST.{call.method}.{level}" if name == "-" else f"REST.{call.method}.{_resource(name, level)}",
        _quoted_key(call.key),
        _quoted(uri),
        str(answer.status),
        code or "-",
        str(sent_bytes) if sent_bytes else "-",
        str(answer.size_bytes) if answer.size_bytes else "-",
        str(milliseconds),
        str(milliseconds),
        _quoted(call.header(b"referer") or "-"),
        _quoted(call.header(b"user-agent") or "-"),
        call.query.get("versionId", "-") or "-",
        "-",
        "SigV4" if call.signed_by else "-",
        "-",
        signed,
        _quoted_key(call.header(b"host") or "-"),
        "-",
        "-",
        "-",
    ]
    return " ".join(fields) + "\n"


def _resource(name: str, level: str) -> str:
    return {"ListObjects": "BUCKET", "ListObjectsV2": "BUCKET"}.get(name, level)


def _quoted_key(text: str) -> str:
    """A field without spaces or line ends, so that a line is one line whatever a caller sent."""
    from urllib.parse import quote

    return quote(text, safe="/~!$&'()*+,;=:@", errors="surrogateescape") or "-"


def _quoted(text: str) -> str:
    return '"' + "".join(letter if letter.isprintable() and letter != '"' else "_" for letter in text) + '"'
