"""The door's quick answers are those of its usual way, and it has one for plain requests only."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from itertools import product
from typing import Any

import pytest

from mainspring.core.clock import SystemClock
from mainspring.core.serve.heads import Head, HeadReader
from mainspring.core.serve.http1 import Http1Server
from mainspring.storage.objects.s3.door import Door
from mainspring.storage.objects.s3.quick import QuickReads
from mainspring.wire.aws import sigv4
from tests.storage.objects.s3.running import Running, aside
from tests.waiting import PATIENCE_S

Query = Sequence[tuple[str, str]]


class Standing(SystemClock):
    """What was looked up stays known, however slow the machine is; what changes must be forgotten by its change."""

    def mono_ns(self) -> int:
        return 0


class Both:
    """One door, asked with and without its quick way."""

    def __init__(self, running: Running, door: Door, usual: asyncio.Server) -> None:
        self.running = running
        self.door = door
        self.quick = QuickReads(door)
        self._usual = usual.sockets[0].getsockname()

    def request(
        self, method: str, path: str, headers: dict[str, str] | None = None, query: Query = (), **wrong: Any
    ) -> bytes:
        now_s = time.time() + wrong.get("off_s", 0)
        scope = sigv4.Scope(wrong.get("access_key", self.running.access_key), sigv4.date_of(now_s)[:8], "r", "s3")
        given = {"host": "127.0.0.1:9000", **(headers or {})}
        secret = wrong.get("secret", self.running.secret_key)
        signed = sigv4.authorize(method, path, query, given, scope, secret, now_s, sigv4.UNSIGNED)
        target = path + (f"?{sigv4.canonical_query(query)}" if query else "")
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in signed.items()), "", ""]
        return "\r\n".join(lines).encode()

    def quickly(self, request: bytes) -> bytes | None:
        head: Head | None = HeadReader().read(request)
        assert head is not None
        return self.quick(head, "127.0.0.1")

    async def usually(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*self._usual)
        writer.write(request)
        async with asyncio.timeout(PATIENCE_S):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or b"0")
            body = b"" if request.startswith(b"HEAD") else await reader.readexactly(length)
        writer.close()
        return head + body


@pytest.fixture
async def both(running: Running) -> AsyncIterator[Both]:
    s3 = running.client()
    await aside(s3.create_bucket, Bucket="box")
    await aside(
        s3.put_object, Bucket="box", Key="a b/ü", Body=b"x" * 5_000, Metadata={"of": "mine"}, ContentType="text/x"
    )
    await aside(s3.put_object, Bucket="box", Key="empty", Body=b"")
    door: Door = await running.mainspring._wiring.get(Door)
    door.buckets._clock = door.identities._pairs._clock = Standing()
    door.objects.database._readers._loop_budget_s = PATIENCE_S  # type: ignore[attr-defined]
    usual = await asyncio.get_running_loop().create_server(Http1Server(door, SystemClock()), "127.0.0.1", 0)
    async with usual:
        yield Both(running, door, usual)


def told(answer: bytes) -> tuple[bytes, set[bytes], bytes]:
    """Status, headers in no order but without those that differ each time, and the body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    return status, {line for line in lines if not line.startswith((b"date:", b"x-amz-request-id:"))}, body


async def test_a_plain_read_is_answered_as_usual(both: Both) -> None:
    summed = {"x-amz-checksum-mode": "ENABLED", "user-agent": "aws-sdk"}
    for path, method, headers in product(["/box/a%20b/%C3%BC", "/box/empty"], ["GET", "HEAD"], [{}, summed]):
        request = both.request(method, path, headers)
        expected = told(await both.usually(request))
        assert expected[0] == b"HTTP/1.1 200 OK"
        for _ in range(2):
            quick = both.quickly(request)
            assert quick is not None and told(quick) == expected


async def test_a_short_listing_is_answered_as_usual(both: Both) -> None:
    fields: list[list[tuple[str, str]]] = [
        [],
        [("prefix", "a b/ü")],
        [("delimiter", "/"), ("encoding-type", "url"), ("fetch-owner", "true")],
        [("delimiter", "/"), ("start-after", "a b/"), ("max-keys", "2")],
        [("prefix", "<&>"), ("max-keys", "0")],
    ]
    for query in fields:
        request = both.request("GET", "/box", query=[("list-type", "2"), *query])
        expected = told(await both.usually(request))
        assert expected[0] == b"HTTP/1.1 200 OK"
        quick = both.quickly(request)
        assert quick is not None and told(quick) == expected


async def test_what_is_not_plain_or_not_right_is_left_to_the_usual_way(both: Both) -> None:
    await both.usually(both.request("GET", "/box/empty"))  # The bucket and the key pair are known by now.
    assert both.quickly(both.request("GET", "/box/empty")) is not None
    refused: list[tuple[bytes, bytes]] = [
        (both.request("GET", "/box/missing"), b"404"),
        (both.request("GET", "/box/empty", secret="wrong"), b"403"),
        (both.request("GET", "/box/empty", access_key="nobody"), b"403"),
        (both.request("GET", "/box/empty", off_s=-3600), b"403"),
        (both.request("GET", "/box/empty").replace(b"authorization", b"x-authorization"), b"403"),
        (both.request("GET", "/box/empty").replace(b"/box/empty", b"/box/a%20b/%C3%BC", 1), b"403"),
        (both.request("GET", "/box/empty").replace(b"UNSIGNED-PAYLOAD", b"nonsense"), b"400"),
        (both.request("GET", "/box/a%20b/%C3%BC", {"range": "bytes=1-2"}), b"206"),
        (both.request("GET", "/box/a%20b/%C3%BC", {"if-none-match": "*"}), b"304"),
        (both.request("GET", "/box/a%20b/%C3%BC", {"if-match": '"no"'}), b"412"),
        (both.request("GET", "/box/a%20b/%C3%BC", {"origin": "https://example.org"}), b"200"),
        (both.request("GET", "/box/empty", {"connection": "close"}), b"200"),
        (both.request("GET", "/box/empty", query=[("versionId", "null")]), b"200"),
        (both.request("GET", "/box"), b"200"),
        (both.request("HEAD", "/box"), b"200"),
        (both.request("GET", "/box", query=[("list-type", "2")], secret="wrong"), b"403"),
        (
            both.request("GET", "/box", query=[("list-type", "2")]).replace(b"list-type=2", b"list-type=2&prefix=x"),
            b"403",
        ),
        (both.request("GET", "/nobox", query=[("list-type", "2")]), b"404"),
        (both.request("GET", "/box", query=[("list-type", "1")]), b"200"),
        (both.request("GET", "/box", query=[("list-type", "2"), ("max-keys", "x")]), b"400"),
        (both.request("GET", "/box", query=[("list-type", "2"), ("encoding-type", "x")]), b"400"),
        (both.request("GET", "/box", query=[("list-type", "2"), ("continuation-token", "x")]), b"400"),
        (both.request("GET", "/box", query=[("list-type", "2"), ("max-keys", "1")]), b"200"),
        (both.request("GET", "/box", query=[("list-type", "2"), ("versions", "")]), b"200"),
        (both.request("GET", "/", query=[("list-type", "2")]), b"405"),
        (both.request("DELETE", "/box/missing"), b"204"),
    ]
    for request, status in refused:
        assert both.quickly(request) is None, request
        assert (await both.usually(request)).split(b" ")[1] == status


async def test_a_bucket_with_rules_or_an_object_with_a_key_goes_the_usual_way(both: Both) -> None:
    s3 = both.running.client()
    await aside(s3.put_object, Bucket="box", Key="sealed", Body=b"secret", ServerSideEncryption="AES256")
    request = both.request("GET", "/box/empty")
    await both.usually(request)
    assert both.quickly(request) is not None
    assert both.quickly(both.request("GET", "/box/sealed")) is None
    policy = '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"*"}]}'
    await aside(s3.put_bucket_policy, Bucket="box", Policy=policy.replace('"*"}]', '"arn:aws:s3:::box/*"}]'))
    assert (await both.usually(request)).startswith(b"HTTP/1.1 403")
    assert both.quickly(request) is None


async def test_versions_and_markers_are_seen_at_once(both: Both) -> None:
    s3 = both.running.client()
    await aside(s3.put_bucket_versioning, Bucket="box", VersioningConfiguration={"Status": "Enabled"})
    request = both.request("GET", "/box/k")
    for value in (b"one", b"two"):
        version = (await aside(s3.put_object, Bucket="box", Key="k", Body=value))["VersionId"]
        await both.usually(request)
        quick = both.quickly(request)
        assert quick is not None and quick.endswith(b"\r\n\r\n" + value) and version.encode() in quick
    await aside(s3.delete_object, Bucket="box", Key="k")
    assert both.quickly(request) is None
    assert (await both.usually(request)).startswith(b"HTTP/1.1 404")


async def test_a_key_that_was_revoked_opens_nothing_any_more(both: Both) -> None:
    keys = await both.running.mainspring.actions["token.create"]({"system": "objects"})
    request = both.request("GET", "/box/empty", access_key=keys["access_key"], secret=keys["secret_key"])
    await both.usually(request)
    assert both.quickly(request) is not None
    await both.running.mainspring.actions["token.revoke"]({"id": keys["id"]})
    assert both.quickly(request) is None
    assert (await both.usually(request)).startswith(b"HTTP/1.1 403")
