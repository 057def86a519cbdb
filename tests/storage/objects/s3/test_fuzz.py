"""The S3 front under mutated requests of real clients: every one is answered, none by a fault of ours, and nothing grows.

The corpus is made by the clients while the test runs: what boto3 and minio really send for a tour. A mutated request is
signed again or not, so that it reaches either the checks of signatures or the handlers behind them.
"""

import asyncio
import json
import random
import time
import tracemalloc
from hashlib import sha256
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl

import minio
import pytest

from mainspring.storage.objects.s3.door import Door
from mainspring.wire.aws import sigv4
from tests.storage.objects.s3.running import Running, aside

ANSWER_S_MAX = 60
GROWTH_BYTES_MAX = 24 << 20
MAY_FAIL = {501, 503, 507}
"""What S3 says of what it does not do, of too many, and of a full disk."""

Recorded = tuple[dict[str, Any], bytes]

SPICE = [
    b"",
    b"\x00",
    b"\xff\xfe",
    b"-1",
    b"99999999999999999999",
    b"../../",
    b"%2e%2e%2f",
    b"%",
    b"%zz",
    b"'\"<>&",
    b"\r\nx: y",
    b"a" * 5_000,
    b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
    b"<a>" * 30,
    b"[" * 3_000,
    b"null",
    b"\xed\xa0\x80",
    b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    b"STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    b"x-amz-checksum-crc32c",
    b"bytes=-0",
    b"bytes=18446744073709551615-",
    b"Thu, 99 Foo 2026 25:61:61 GMT",
]
FIELDS = [
    *(
        "acl",
        "attributes",
        "cors",
        "delete",
        "encryption",
        "lifecycle",
        "list-type",
        "location",
        "logging",
        "notification",
    ),
    *("object-lock", "ownershipControls", "partNumber", "policy", "policyStatus", "publicAccessBlock", "replication"),
    *(
        "requestPayment",
        "retention",
        "legal-hold",
        "tagging",
        "uploadId",
        "uploads",
        "versionId",
        "versioning",
        "versions",
    ),
    *("website", "max-keys", "prefix", "delimiter", "encoding-type", "continuation-token", "start-after", "key-marker"),
    *("version-id-marker", "upload-id-marker", "part-number-marker", "max-parts", "X-Amz-Signature", "inventory", "id"),
]
HEADERS = [
    *(
        b"range",
        b"if-match",
        b"if-none-match",
        b"if-modified-since",
        b"content-md5",
        b"x-amz-acl",
        b"x-amz-copy-source",
    ),
    *(b"x-amz-copy-source-range", b"x-amz-tagging", b"x-amz-meta-a", b"x-amz-object-lock-mode", b"x-amz-trailer"),
    *(b"x-amz-object-lock-retain-until-date", b"x-amz-server-side-encryption", b"x-amz-storage-class", b"x-amz-date"),
    *(
        b"x-amz-server-side-encryption-customer-key",
        b"x-amz-checksum-sha256",
        b"x-amz-decoded-content-length",
        b"origin",
    ),
    *(b"x-amz-content-sha256", b"content-length", b"x-amz-object-attributes", b"x-mainspring-as-of", b"authorization"),
    *(b"x-amz-security-token", b"host", b"content-type", b"x-amz-grant-read", b"expect", b"x-amz-mp-object-size"),
]
METHODS = ["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH", "\u00e9"]


async def corpus(running: Running, door: Door) -> list[Recorded]:
    """What two clients send for a tour, each request with its whole body."""
    recorded: list[Recorded] = []
    original = Door.__call__

    async def recording(self: Door, scope: Any, receive: Any, send: Any) -> None:
        body = bytearray()

        async def hear() -> Any:
            message = await receive()
            body.extend(message.get("body", b""))
            return message

        kept = {
            name: scope[name] for name in ("type", "method", "path", "raw_path", "query_string", "headers", "scheme")
        }
        await original(self, scope, hear, send)
        recorded.append((kept, bytes(body)))

    def tour() -> None:
        s3 = running.client()
        s3.create_bucket(Bucket="fuzz", ObjectLockEnabledForBucket=True, ObjectOwnership="ObjectWriter")
        cors = {"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}
        s3.put_bucket_cors(Bucket="fuzz", CORSConfiguration={"CORSRules": [cors]})
        s3.put_bucket_tagging(Bucket="fuzz", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
        reads = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::fuzz/*"}
        s3.put_bucket_policy(Bucket="fuzz", Policy=json.dumps({"Statement": [reads]}))
        rule = {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": "t"}, "Expiration": {"Days": 1}}
        s3.put_bucket_lifecycle_configuration(Bucket="fuzz", LifecycleConfiguration={"Rules": [rule]})
        s3.put_object(
            Bucket="fuzz", Key="a/b", Body=b"hello", Metadata={"k": "v"}, Tagging="a=b", ChecksumAlgorithm="SHA256"
        )
        s3.get_object(Bucket="fuzz", Key="a/b", Range="bytes=1-3")
        s3.head_object(Bucket="fuzz", Key="a/b")
        s3.get_object_attributes(Bucket="fuzz", Key="a/b", ObjectAttributes=["ETag", "ObjectParts"])
        s3.copy_object(Bucket="fuzz", Key="copy", CopySource="fuzz/a/b")
        upload = s3.create_multipart_upload(Bucket="fuzz", Key="parts")["UploadId"]
        part = s3.upload_part(Bucket="fuzz", Key="parts", UploadId=upload, PartNumber=1, Body=b"part")
        s3.list_parts(Bucket="fuzz", Key="parts", UploadId=upload)
        parts = [{"PartNumber": 1, "ETag": part["ETag"]}]
        s3.complete_multipart_upload(Bucket="fuzz", Key="parts", UploadId=upload, MultipartUpload={"Parts": parts})
        s3.list_objects_v2(Bucket="fuzz", Prefix="a", Delimiter="/", MaxKeys=2)
        s3.list_object_versions(Bucket="fuzz", MaxKeys=2)
        s3.put_object_acl(Bucket="fuzz", Key="a/b", ACL="public-read")
        s3.put_object_legal_hold(Bucket="fuzz", Key="copy", LegalHold={"Status": "ON"})
        s3.delete_objects(Bucket="fuzz", Delete={"Objects": [{"Key": "none"}]})
        client = minio.Minio(running.host, access_key=running.access_key, secret_key=running.secret_key, secure=False)
        client.put_object("fuzz", "streamed", BytesIO(b"x" * 70_000), 70_000)
        list(client.list_objects("fuzz", recursive=True))

    Door.__call__ = recording  # type: ignore[method-assign]
    try:
        await aside(tour)
    finally:
        Door.__call__ = original  # type: ignore[method-assign]
    return recorded


def mutated(chance: random.Random, recorded: Recorded, running: Running) -> Recorded:
    """One to three changes, and perhaps a signature that is right again."""
    scope, body = dict(recorded[0]), recorded[1]
    headers = dict(scope["headers"])
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    path: bytes = scope["raw_path"]
    for _ in range(chance.randint(1, 3)):
        spice = chance.choice(SPICE)
        kind = chance.randrange(8)
        if kind == 0:
            scope["method"] = chance.choice(METHODS)
        elif kind == 1:
            at = chance.randint(1, len(path))
            path = path[:at] + spice[:300] + path[at + chance.randint(0, 3) :]
        elif kind == 2:
            query.append((chance.choice(FIELDS), spice.decode("latin-1")[:300]))
        elif kind == 3 and query:
            query.pop(chance.randrange(len(query)))
        elif kind == 4:
            headers[chance.choice(HEADERS)] = spice
        elif kind == 5 and headers:
            headers.pop(chance.choice(list(headers)))
        elif kind == 6:
            at = chance.randint(0, len(body))
            body = body[:at] + spice + body[at + chance.randint(0, 40) :]
        else:
            body = body[: chance.randint(0, len(body))]
    if chance.random() < 0.7:
        headers = _signed(running, scope["method"], path, query, headers, body)
    scope |= {
        "raw_path": path,
        "path": path.decode("latin-1"),
        "query_string": sigv4.canonical_query(query).encode(),
        "headers": list(headers.items()),
        "client": ("127.0.0.1", 1),
    }
    return scope, body


def _signed(
    running: Running, method: str, path: bytes, query: list[tuple[str, str]], headers: dict[bytes, bytes], body: bytes
) -> dict[bytes, bytes]:
    now_s = time.time()
    scope = sigv4.Scope(running.access_key, sigv4.date_of(now_s)[:8], "us-east-1", "s3")
    declared = headers.get(b"x-amz-content-sha256", b"")
    if not declared.startswith(b"STREAMING-"):
        headers = {
            **headers,
            b"x-amz-content-sha256": sha256(body).hexdigest().encode(),
            b"content-length": b"%d" % len(body),
        }
    headers = {**headers, b"host": running.host.encode(), b"x-amz-date": sigv4.date_of(now_s).encode()}
    names = tuple(sorted(name.decode("latin-1") for name in headers if name == b"host" or name.startswith(b"x-amz-")))
    hashed = headers[b"x-amz-content-sha256"].decode("latin-1")
    canonical = sigv4.canonical_request(method, path, query, headers, names, hashed)
    key = sigv4.derived_key(running.secret_key, scope.day, scope.region, scope.service)
    signature = sigv4.sign(key, sigv4.date_of(now_s), scope.text, canonical)
    text = f"{sigv4.ALGORITHM} Credential={scope.access_key}/{scope.text},SignedHeaders={';'.join(names)},Signature={signature}"
    return {**headers, b"authorization": text.encode("latin-1", "replace")}


async def answered(door: Door, request: Recorded) -> int:
    """The status of the answer; fails where there is none in time."""
    scope, body = request
    heard, statuses = [{"type": "http.request", "body": body, "more_body": False}], []

    async def receive() -> Any:
        return heard.pop() if heard else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
            assert all(
                isinstance(part, bytes) and b"\n" not in part for header in message["headers"] for part in header
            )

    from mainspring.core.http.request import Disconnected

    async with asyncio.timeout(ANSWER_S_MAX):
        try:
            await door(dict(scope), receive, send)
        except Disconnected:
            return 0
    assert len(statuses) == 1
    return int(statuses[0])


async def fuzz(running: Running, requests: int, seed: int) -> None:
    door = await running.mainspring.service(Door)
    recorded = await corpus(running, door)
    chance = random.Random(seed)
    tracemalloc.start()
    try:
        before = 0
        for number in range(requests):
            if number == requests // 2:
                before = tracemalloc.get_traced_memory()[0]
            request = mutated(chance, chance.choice(recorded), running)
            status = await answered(door, request)
            assert status < 500 or status in MAY_FAIL, f"seed {seed}, request {number}: {status} to {request}"
            await asyncio.sleep(0)
        grown = tracemalloc.get_traced_memory()[0] - before
        assert grown < GROWTH_BYTES_MAX, f"seed {seed}: {grown:,} bytes more"
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("seed", [1, 2])
async def test_mutated_requests_of_real_clients_are_all_answered(running: Running, seed: int) -> None:
    await fuzz(running, 500, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 20))
async def test_many_mutated_requests_of_real_clients_are_all_answered(running: Running, seed: int) -> None:
    await fuzz(running, 5_000, seed)
