"""The S3 endpoint: an ASGI application that finds out who asks for what, whether they may, and lets the operation answer.

A request passes: address (path or virtual host), signature, operation, bucket, access, handler. Every answer carries
`x-amz-request-id` and `x-amz-id-2`; every problem becomes S3's XML; a fault of ours says nothing of its text.
"""

import logging
import os
from base64 import b64encode
from typing import Final

from mainspring.core.clock import Clock
from mainspring.core.http.request import Disconnected, Receive, Scope, Send
from mainspring.core.problems import Problem
from mainspring.core.telemetry import Metrics
from mainspring.core.telemetry.instruments import Histogram
from mainspring.storage.objects.s3 import (
    access,
    bucket_handlers,
    commits,
    cors,
    documents,
    errors,
    forms,
    grants,
    lifecycle,
    listings,
    locks,
    object_handlers,
    routing,
    sts,
    uploads,
    website,
    writes,
)
from mainspring.storage.objects.s3.access import Verdict
from mainspring.storage.objects.s3.access_log import AccessLog
from mainspring.storage.objects.s3.addressing import Hosts
from mainspring.storage.objects.s3.answers import Answer, Header
from mainspring.storage.objects.s3.authentication import authenticate
from mainspring.storage.objects.s3.buckets import Buckets
from mainspring.storage.objects.s3.call import Call
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.identity import Identities
from mainspring.storage.objects.s3.visitors import Visitors
from mainspring.storage.objects.service import Objects

log = logging.getLogger(__name__)

HANDLERS: Final = (
    bucket_handlers,
    commits,
    writes,
    documents,
    grants,
    lifecycle,
    listings,
    locks,
    object_handlers,
    uploads,
)
"""Modules whose handlers stand in the table of operations."""

SILENT: Final = "RequestTimeout"
"""Of a body that has fallen silent nobody waits for the rest."""

SERVER: Final[Header] = (b"server", b"mainspring")


class Door:
    """`accounts` knows the key pairs. `region` is what clients are told; any region in a signature is accepted."""

    def __init__(
        self,
        objects: Objects,
        identities: Identities,
        clock: Clock,
        metrics: Metrics | None = None,
        *,
        region: str = "us-east-1",
        hosts: Hosts | None = None,
        access_log: AccessLog | None = None,
        anonymous_uploads_max: int = 1_000,
        signature_v2: bool = True,
    ) -> None:
        self.objects = objects
        self.identities = identities
        self.clock = clock
        self.region = region
        self.signature_v2 = signature_v2
        self.hosts = hosts or Hosts(("s3.localhost",), ("s3-website.localhost",))
        self.buckets = Buckets(objects, clock)
        self.access_log = access_log or AccessLog(objects, clock)
        self.visitors = Visitors(anonymous_uploads_max)
        metrics = metrics or Metrics()
        self._timed: dict[str, Histogram] = {}
        self._requests = metrics.histogram("objects_s3_seconds", "Time of S3 requests, bodies included", ("operation",))
        self._failed = metrics.counter("objects_s3_errors", "S3 requests that were refused or failed", ("code",))
        self._id = int.from_bytes(os.urandom(7), "big") << 8
        self._host_id = b64encode(os.urandom(36)).decode()
        self.id2: Header = (b"x-amz-id-2", self._host_id.encode())

    async def stop(self) -> None:
        """Delivers what waits of the access logs."""
        await self.access_log.stop()

    def next_id(self) -> str:
        """The id of a request."""
        self._id = (self._id + 1) & (2**64 - 1)
        return f"{self._id:016X}"

    def observe(self, operation: str, seconds: float) -> None:
        """Notes how long a request took."""
        timed = self._timed.get(operation)
        if timed is None:
            timed = self._timed[operation] = self._requests.labels(operation)
        timed.observe(seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        request_id = self.next_id()
        started_ns = self.clock.mono_ns()
        call: Call | None = None
        code = ""
        try:
            call = Call(self, scope, receive, request_id)
            answer = await self._answer(call)
        except Problem as problem:
            answer, code = self._refusal(problem, call, request_id)
        except Disconnected:
            raise
        except Exception as error:
            log.error("S3 request %s failed at %s", request_id, scope["path"][:200], exc_info=error)
            answer, code = self._refusal(S3Error("InternalError"), call, request_id)
        if code and call is not None and code != SILENT:
            await call.drain()
        common: list[Header] = [(b"x-amz-request-id", request_id.encode()), self.id2, SERVER]
        if call is not None and call.view is not None and b"origin" in call.headers:
            common += self._cors(call)
        sent = await answer.send(send, common, head=scope["method"] == "HEAD")
        name = call.operation.name if call is not None and call.operation is not None else "none"
        seconds = (self.clock.mono_ns() - started_ns) / 1e9
        self.observe(name, seconds)
        if code:
            self._failed.labels(code).inc()
        if call is not None and call.view is not None and "logging" in call.view.documents:
            self.access_log.note(call, answer, code, sent, seconds)

    async def _answer(self, call: Call) -> Answer:
        method = call.method
        if call.address.website and method in ("GET", "HEAD"):
            return await website.serve(call)
        if method == "OPTIONS":
            return await self._preflight(call)
        if method == "POST":
            if not call.bucket:
                return await sts.answer(call)
            if not call.key and forms.is_form(call):
                return await forms.post(call)
        operation = call.operation = routing.find(method, call.level, call.query)
        await authenticate(call)
        bucket = call.bucket
        if bucket and operation.name != "CreateBucket":
            call.view = self.buckets.remembered(bucket) or await self.buckets.view(bucket)
            if (expected := call.headers.get(b"x-amz-expected-bucket-owner")) is not None:
                self._check_owner(call, expected.decode("latin-1"))
        if operation.action:
            access.check(call, operation.action, call.key)
        return await operation.handler(call)

    def _check_owner(self, call: Call, expected: str) -> None:
        """Whoever expects a bucket to be another account's is told that it is not."""
        view = call.view
        assert view is not None
        own = call.identity.account if call.identity.id == view.owner else ""
        if expected not in (own, view.owner):
            raise S3Error("AccessDenied")

    async def _preflight(self, call: Call) -> Answer:
        call.operation = routing.Operation("PreflightRequest", "", _unreachable)
        if allowed := cors.headers_for_signed(call.query, call.headers):
            return Answer(200, allowed)
        rules = None
        if call.bucket:
            view = await self.buckets.view(call.bucket)
            document = view.documents.get("cors")
            rules = cors.decode(document) if document else None
        return cors.preflight(rules, call.headers)

    def _cors(self, call: Call) -> list[Header]:
        assert call.view is not None
        if call.signed_by == "query" and (allowed := cors.headers_for_signed(call.query, call.headers)):
            return allowed
        document = call.view.documents.get("cors")
        if not document or call.method == "OPTIONS":
            return []
        return cors.headers_for(cors.decode(document), call.headers[b"origin"].decode("latin-1"), call.method)

    def _refusal(self, problem: Problem, call: Call | None, request_id: str) -> tuple[Answer, str]:
        status, code, _ = errors.told(problem)
        if code == "InternalError":
            log.error("S3 request %s: %s", request_id, problem.detail)
        if status == 304:
            return Answer(304, [(b"etag", b'"%s"' % str(problem.more.get("etag", "")).encode())]), code
        resource = call.resource if call is not None else "/"
        if call is not None and call.address.website:
            return website.refusal(call, problem), code
        return errors.answer(problem, resource, request_id, self._host_id), code

    def note_verdict(self, call: Call, action: str, verdict: Verdict) -> None:
        """What decided, and by which statement: for the log."""
        call.verdict = f"{verdict.by}:{verdict.statement}" if verdict.statement else verdict.by
        if not verdict.allowed:
            log.debug("%s refused %s on %s by %s", action, call.identity.name, call.resource, call.verdict)


async def _unreachable(_call: Call) -> Answer:
    raise S3Error("MethodNotAllowed")
