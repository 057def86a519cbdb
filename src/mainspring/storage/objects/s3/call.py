"""One request at the door: what it says, who says it, and which bucket it is about; handlers take this and give an `Answer`."""

import asyncio
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from mainspring.core.http.request import Message, Receive, Scope, headers_of
from mainspring.storage.objects.s3 import routing
from mainspring.storage.objects.s3.addressing import Address, fields
from mainspring.storage.objects.s3.bodies import Body, content_md5
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.identity import ANONYMOUS, Identity
from mainspring.storage.objects.s3.xml import DOCUMENT_BYTES_MAX, Malformed, Node, parse
from mainspring.wire.aws.sigv4 import Seed

if TYPE_CHECKING:
    from mainspring.storage.objects.s3.buckets import BucketView
    from mainspring.storage.objects.s3.door import Door

EMPTY: dict[str, str] = {}
DRAINED_BYTES_MAX = 64 << 20
DRAINED_S_MAX = 10.0


class Call:
    """`query` has the last value of each field; `query_pairs` all of them in order. Headers have lower-case names."""

    def __init__(self, door: "Door", scope: Scope, receive: Receive, request_id: str) -> None:
        self.door = door
        self.objects = door.objects
        self.scope = scope
        self.heard_all = False
        self._receive = receive
        self.request_id = request_id
        self.method: str = scope["method"]
        self.headers: dict[bytes, bytes] = headers_of(scope)
        self.raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        query_string: bytes = scope["query_string"]
        self.query_pairs = fields(query_string) if query_string else []
        self.query: dict[str, str] = dict(self.query_pairs) if query_string else EMPTY
        self.address: Address = door.hosts.address(self.headers.get(b"host", b""), self.raw_path)
        self.bucket = self.address.bucket
        self.key = self.address.key
        self.identity: Identity = ANONYMOUS
        self.seed: Seed | None = None
        self.body_sha256 = ""
        self.signed_by = ""
        """How it was authenticated: empty, `header`, `query` or `form`."""
        self.signature_age_ms = 0
        self.operation: routing.Operation | None = None
        self.view: BucketView | None = None
        self.existing_tags: dict[str, str] = EMPTY
        """The tags of the object that is asked for, where a policy wants to know them."""
        self.verdict = ""
        self.ranged = False

    async def receive(self) -> Message:
        """The next piece of the body, as ASGI has it."""
        message = await self._receive()
        if not message.get("more_body"):
            self.heard_all = True
        return message

    async def drain(self) -> None:
        """Hears the rest of a body that nobody wants, within bounds: a client that is still sending would not hear the
        answer. One that waits to be told to go on is not told to."""
        declared = self.headers.get(b"content-length", b"")
        wanted = declared.isdigit() and len(declared) < 10 and 0 < int(declared) <= DRAINED_BYTES_MAX
        if self.heard_all or not wanted or b"expect" in self.headers:
            return
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + DRAINED_S_MAX
        while not self.heard_all:
            # Not cancelled and awaited: what the native server makes of that is not for an answer to wait for.
            hearing = asyncio.ensure_future(self.receive())
            done, _ = await asyncio.wait({hearing}, timeout=ends_s - loop.time())
            if not done:
                hearing.cancel()
                return
            if hearing.exception() is not None:
                return

    @property
    def level(self) -> routing.Level:
        return "service" if not self.bucket else "object" if self.key else "bucket"

    @property
    def resource(self) -> str:
        """What errors say that it was about: the path as it came, decoded."""
        return f"/{self.bucket}/{self.key}" if self.key else f"/{self.bucket}"

    @property
    def client(self) -> str:
        client = self.scope.get("client")
        return client[0] if client else ""

    @property
    def secure(self) -> bool:
        return bool(self.scope.get("scheme") == "https")

    @property
    def version(self) -> str | None:
        """Which version is meant. Raises `InvalidArgument` for an empty one."""
        version = self.query.get("versionId")
        if version == "":
            raise S3Error("InvalidArgument", "Version id cannot be the empty string", ArgumentName="versionId")
        return version

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        if value is None:
            return None
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.decode("latin-1")

    def flag(self, name: bytes) -> bool:
        return self.headers.get(name, b"").lower() == b"true"

    def number(self, name: str, default: int, most: int) -> int:
        """A number of the query. Raises `InvalidArgument`."""
        return number(self.query, name, default, most)

    @cached_property
    def body(self) -> Body:
        return Body(self.headers, self.receive, self.seed, self.body_sha256)

    async def bytes(self, bytes_max: int = DOCUMENT_BYTES_MAX) -> bytes:
        """The whole body, held against `Content-MD5`. Raises `MalformedXML` where it is too large, `BadDigest`."""
        expected = content_md5(self.headers)
        whole = await self.body.whole(bytes_max)
        if expected is not None:
            from hashlib import md5

            if md5(whole, usedforsecurity=False).digest() != expected:
                raise S3Error("BadDigest")
        return whole

    async def document(self, root: str) -> Node:
        """The body as XML. Raises `MalformedXML`."""
        try:
            return parse(await self.bytes(), root)
        except Malformed as error:
            raise S3Error("MalformedXML", str(error)) from None


def number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    """A number of a query, at most `most`. Raises `InvalidArgument`."""
    text = query.get(name)
    if text is None or text == "":
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > 2**31 - 1:
        raise S3Error("InvalidArgument", f"Provided {name} not an integer or within integer range", ArgumentName=name)
    return min(int(text), most)
