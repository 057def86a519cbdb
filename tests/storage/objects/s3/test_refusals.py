"""Bad input and abuse: each is refused in S3's own form, and nothing is changed by it."""

import asyncio
from base64 import b64encode
from hashlib import md5, sha256
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError

from mainspring.storage.objects.s3 import bodies
from mainspring.storage.objects.s3.xml import parse
from mainspring.wire.aws import sigv4
from mainspring.wire.aws.chunked import SIGNED, UNSIGNED_TRAILER
from tests.storage.objects.s3.raw import Reply, Signer, send
from tests.storage.objects.s3.running import Running, aside, code_of


@pytest.fixture
async def s3(running: Running) -> Signer:
    signer = Signer(running)
    assert (await signer.send("PUT", "/refusals")).status == 200
    return signer


async def nothing_stored(s3: Signer) -> None:
    listed = await s3.send("GET", "/refusals", query=[("list-type", "2")])
    assert b"<KeyCount>0</KeyCount>" in listed.body


async def test_a_wrong_signature(s3: Signer) -> None:
    reply = await s3.send("GET", "/refusals", secret="another")
    assert (reply.status, reply.code) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize("off_s", [-1_200, 1_200])
async def test_a_clock_that_is_off_by_more_than_fifteen_minutes(s3: Signer, off_s: int) -> None:
    reply = await s3.send("GET", "/refusals", off_s=off_s)
    assert (reply.status, reply.code) == (403, "RequestTimeTooSkewed")


async def test_an_expired_presigned_url(s3: Signer) -> None:
    reply = await s3.presigned("GET", "/refusals/k", off_s=-10, expires_s=5)
    assert (reply.status, reply.code) == (403, "AccessDenied")
    assert b"expired" in reply.body


async def test_an_unknown_key(s3: Signer) -> None:
    reply = await s3.send("GET", "/refusals", access_key="AKIAIOSFODNN7EXAMPLE")
    assert (reply.status, reply.code) == (403, "InvalidAccessKeyId")


async def test_a_bad_chunk_signature_drops_the_upload_at_that_chunk(s3: Signer) -> None:
    pieces = [b"a" * 9_000, b"b" * 9_000]
    whole = await s3.send("PUT", "/refusals/whole", chunks=(SIGNED, 18_000), body=lambda seed: s3.chunked(pieces, seed))
    assert whole.status == 200
    await s3.send("DELETE", "/refusals/whole")
    reply = await s3.send(
        "PUT", "/refusals/k", chunks=(SIGNED, 18_000), body=lambda seed: s3.chunked(pieces, seed, spoil=True)
    )
    assert (reply.status, reply.code) == (403, "SignatureDoesNotMatch")
    await nothing_stored(s3)


async def test_a_body_whose_hash_differs(s3: Signer) -> None:
    reply = await s3.send("PUT", "/refusals/k", body=b"hello", declared=sha256(b"other").hexdigest())
    assert (reply.status, reply.code) == (400, "XAmzContentSHA256Mismatch")
    await nothing_stored(s3)


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [
        ("content-md5", b64encode(md5(b"other").digest()).decode(), "BadDigest"),
        ("content-md5", "not base64", "InvalidDigest"),
        ("content-md5", b64encode(b"short").decode(), "InvalidDigest"),
        ("x-amz-checksum-crc32", "AAAAAA==", "BadDigest"),
        ("x-amz-checksum-sha256", "AAAA", "InvalidRequest"),
        ("x-amz-sdk-checksum-algorithm", "CRC7", "InvalidRequest"),
    ],
)
async def test_a_digest_that_differs_or_is_none(s3: Signer, header: str, value: str, code: str) -> None:
    reply = await s3.send("PUT", "/refusals/k", body=b"hello", headers={header: value})
    assert (reply.status, reply.code) == (400, code)
    await nothing_stored(s3)


async def test_a_trailing_checksum_that_differs(s3: Signer) -> None:
    body = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    headers = {"x-amz-trailer": "x-amz-checksum-crc32"}
    reply = await s3.send("PUT", "/refusals/k", body=body, chunks=(UNSIGNED_TRAILER, 5), headers=headers)
    assert (reply.status, reply.code) == (400, "BadDigest")
    await nothing_stored(s3)


async def test_a_short_body_in_chunks(s3: Signer) -> None:
    body = b"3\r\nhel\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    headers = {"x-amz-trailer": "x-amz-checksum-crc32"}
    reply = await s3.send("PUT", "/refusals/k", body=body, chunks=(UNSIGNED_TRAILER, 5), headers=headers)
    assert (reply.status, reply.code) == (400, "IncompleteBody")
    await nothing_stored(s3)


async def test_a_client_that_leaves_before_its_body_is_whole_stores_nothing(s3: Signer) -> None:
    await s3.leave("PUT", "/refusals/k", b"hel", size=5)
    await nothing_stored(s3)


async def test_a_body_that_falls_silent_is_given_up(s3: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "SILENCE_S_MAX", 0.05)
    reply = await s3.send("PUT", "/refusals/k", declared=sigv4.UNSIGNED, headers={"content-length": "5"}, raw=b"hel")
    assert (reply.status, reply.code, reply.headers["connection"]) == (400, "RequestTimeout", "close")
    await nothing_stored(s3)


async def test_a_body_without_a_length(s3: Signer) -> None:
    reply = await s3.send(
        "PUT", "/refusals/k", body=b"", headers={"transfer-encoding": "chunked"}, raw=b"5\r\nhello\r\n0\r\n\r\n"
    )
    assert (reply.status, reply.code) == (411, "MissingContentLength")
    await nothing_stored(s3)


async def test_a_body_of_more_than_5_gib(s3: Signer) -> None:
    reply = await s3.send(
        "PUT", "/refusals/k", declared=sigv4.UNSIGNED, headers={"content-length": str((5 << 30) + 1)}, raw=b"x"
    )
    assert (reply.status, reply.code) == (400, "EntityTooLarge")


async def started(s3: Signer) -> str:
    reply = await s3.send("POST", "/refusals/parts", query=[("uploads", "")])
    return parse(reply.body, "InitiateMultipartUploadResult").get("UploadId")


async def part(s3: Signer, id: str, number: int, body: bytes) -> str:
    reply = await s3.send("PUT", "/refusals/parts", query=[("partNumber", str(number)), ("uploadId", id)], body=body)
    assert reply.status == 200, reply.body
    return reply.headers["etag"]


def completion(parts: list[tuple[int, str]]) -> bytes:
    listed = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in parts)
    return f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()


async def test_parts_that_cannot_be_an_object(s3: Signer) -> None:
    id = await started(s3)
    one, two = await part(s3, id, 1, b"small"), await part(s3, id, 2, b"last")
    for parts, code in (
        ([(1, one), (2, two)], "EntityTooSmall"),
        ([(2, two), (1, one)], "InvalidPartOrder"),
        ([(1, '"00000000000000000000000000000000"')], "InvalidPart"),
        ([(3, one)], "InvalidPart"),
    ):
        reply = await s3.send("POST", "/refusals/parts", query=[("uploadId", id)], body=completion(parts))
        assert (reply.status, reply.code) == (400, code)
    reply = await s3.send("POST", "/refusals/parts", query=[("uploadId", "none")], body=completion([(1, one)]))
    assert (reply.status, reply.code) == (404, "NoSuchUpload")
    reply = await s3.send("PUT", "/refusals/parts", query=[("partNumber", "10001"), ("uploadId", id)], body=b"")
    assert (reply.status, reply.code) == (400, "InvalidArgument")
    await nothing_stored(s3)


async def test_a_key_of_more_than_1024_bytes(s3: Signer) -> None:
    assert (await s3.send("PUT", "/refusals/" + "k" * 1_024, body=b"")).status == 200
    reply = await s3.send("PUT", "/refusals/" + "k" * 1_025, body=b"")
    assert (reply.status, reply.code) == (400, "KeyTooLongError")


@pytest.mark.parametrize("name", ["Upper", "a", "-x-", "a..b", "192.168.0.1", "a_b", "x" * 64, "xn--bucket"])
async def test_a_bad_bucket_name(s3: Signer, name: str) -> None:
    reply = await s3.send("PUT", f"/{name}")
    assert (reply.status, reply.code) == (400, "InvalidBucketName")


@pytest.mark.parametrize(
    "key",
    [
        "../../x",
        "a//b",
        "/lead",
        "..",
        "a/./b",
        "\x01\x1f",
        "snow\u2603",
        "a\tb\nc",
        "%2F",
        "a+b c",
        "<&>\"'",
        "e\u0301",
    ],
)
async def test_any_key_is_stored_and_listed_as_it_is(s3: Signer, key: str) -> None:
    path = "/refusals/" + quote(key, safe="")
    assert (await s3.send("PUT", path, body=key.encode())).status == 200
    assert (await s3.send("GET", path)).body == key.encode()
    listed = await s3.send("GET", "/refusals", query=[("list-type", "2"), ("encoding-type", "url")])
    assert f"<Key>{quote(key, safe='/-_.~*')}</Key>".encode() in listed.body


async def test_a_path_that_is_no_utf8(s3: Signer) -> None:
    reply = await s3.send("PUT", "/refusals/%ff", body=b"")
    assert (reply.status, reply.code) == (400, "InvalidURI")


ENTITY = b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><Delete><Object><Key>&e;</Key></Object></Delete>'
BOMB = (
    b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><Delete><Object><Key>&b;</Key></Object></Delete>'
)


@pytest.mark.parametrize(
    "body",
    [
        ENTITY,
        BOMB,
        b"<a>" * 21 + b"</a>" * 21,
        b"<Delete>" + b"<x>" * 20 + b"</x>" * 20 + b"</Delete>",
        b"<Delete><Object><Key>" + b"k" * (1 << 20) + b"</Key></Object></Delete>",
        b"<Delete>",
        b"",
        b"\x00",
        b"<Delete></Delete>",
        b"<Delete>" + b"<Object><Key>k</Key></Object>" * 1_001 + b"</Delete>",
    ],
    ids=["entity", "bomb", "other root", "too deep", "too long", "open", "empty", "binary", "no key", "1,001 keys"],
)
async def test_a_document_that_may_not_be_read(s3: Signer, body: bytes) -> None:
    reply = await s3.send("POST", "/refusals", query=[("delete", "")], body=body)
    assert (reply.status, reply.code) == (400, "MalformedXML")
    assert b"root:" not in reply.body


async def test_metadata_of_more_than_2_kib(s3: Signer) -> None:
    reply = await s3.send("PUT", "/refusals/k", body=b"", headers={"x-amz-meta-a": "v" * 2_049})
    assert (reply.status, reply.code) == (400, "MetadataTooLarge")
    await nothing_stored(s3)


@pytest.mark.parametrize(
    "policy",
    [
        b" " * (20 << 10) + b"{}",
        b'{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:Fly","Resource":"arn:aws:s3:::refusals/*"}]}',
        b'{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::other/*"}]}',
        b"not json",
        b"[" * 5_000,
    ],
    ids=["too long", "unknown action", "another bucket", "no JSON", "nested"],
)
async def test_a_policy_that_cannot_be_one(s3: Signer, policy: bytes) -> None:
    reply = await s3.send("PUT", "/refusals", query=[("policy", "")], body=policy)
    assert (reply.status, reply.code) == (400, "MalformedPolicy")


async def test_more_than_ten_tags(s3: Signer) -> None:
    tags = "&".join(f"t{number}=v" for number in range(11))
    reply = await s3.send("PUT", "/refusals/k", body=b"", headers={"x-amz-tagging": tags})
    assert (reply.status, reply.code) == (400, "BadRequest")
    await nothing_stored(s3)


async def test_a_range_past_the_end(s3: Signer) -> None:
    await s3.send("PUT", "/refusals/k", body=b"hello")
    reply = await s3.send("GET", "/refusals/k", headers={"range": "bytes=5-"})
    assert (reply.status, reply.code, reply.headers["content-range"]) == (416, "InvalidRange", "bytes */5")


async def test_conditions_on_what_is_missing_or_has_another_etag(s3: Signer) -> None:
    reply = await s3.send("PUT", "/refusals/k", body=b"", headers={"if-match": '"x"'})
    assert (reply.status, reply.code) == (404, "NoSuchKey")
    await s3.send("PUT", "/refusals/k", body=b"")
    reply = await s3.send("PUT", "/refusals/k", body=b"", headers={"if-match": '"x"'})
    assert (reply.status, reply.code) == (412, "PreconditionFailed")


async def test_a_large_upload_that_is_refused_at_once_still_hears_why(running: Running, s3: Signer) -> None:
    reply = await s3.send("PUT", "/refusals/k", body=bytes(12 << 20), secret="another")
    assert (reply.status, reply.code) == (403, "SignatureDoesNotMatch")
    wrong = running.client(secret_key="another")
    with pytest.raises(ClientError) as refused:
        await aside(wrong.put_object, Bucket="refusals", Key="k", Body=bytes(12 << 20))
    assert code_of(refused.value) == "SignatureDoesNotMatch"
    await nothing_stored(s3)


async def test_of_racing_conditional_writes_one_wins(s3: Signer) -> None:
    replies: list[Reply] = await asyncio.gather(
        *(s3.send("PUT", "/refusals/k", body=b"%d" % number, headers={"if-none-match": "*"}) for number in range(20))
    )
    statuses = [reply.status for reply in replies]
    assert statuses.count(200) == 1
    assert {*statuses} == {200, 412}
    winner = statuses.index(200)
    assert (await s3.send("GET", "/refusals/k")).body == b"%d" % winner


async def test_an_anonymous_caller_has_a_bounded_number_of_open_uploads(running: Running, s3: Signer) -> None:
    from mainspring.storage.objects.s3.errors import S3Error
    from mainspring.storage.objects.s3.visitors import Visitors

    visitors = Visitors(2)
    for number in range(2):
        visitors.must_have_room("b", "10.0.0.1")
        visitors.begun("b", "10.0.0.1", str(number))
    with pytest.raises(S3Error) as full:
        visitors.must_have_room("b", "10.0.0.1")
    assert (full.value.code, full.value.http_status) == ("SlowDown", 503)
    visitors.must_have_room("b", "10.0.0.2")
    visitors.ended("0")
    visitors.must_have_room("b", "10.0.0.1")


@pytest.mark.parametrize("path", ["/refusals/<script>alert(1)</script>", "/<script>alert(1)</script>/k"])
async def test_markup_is_never_reflected(s3: Signer, path: str) -> None:
    for host in (s3.host, "refusals.s3-website.localhost", "<b>.s3-website.localhost"):
        reply = await send(s3.running, "GET", quote(path, safe="/<>"), {"host": host})
        assert reply.status >= 400
        assert b"<script" not in reply.body
        assert b"<b>" not in reply.body


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("PATCH", "/refusals", 405, "MethodNotAllowed"),
        ("POST", "/refusals/k", 405, "MethodNotAllowed"),
        ("DELETE", "/", 405, "MethodNotAllowed"),
        ("GET", "/missing-bucket", 404, "NoSuchBucket"),
        ("GET", "/refusals/missing", 404, "NoSuchKey"),
    ],
)
async def test_what_is_not_there_or_not_allowed(s3: Signer, method: str, path: str, status: int, code: str) -> None:
    reply = await s3.send(method, path)
    assert (reply.status, reply.code) == (status, code)
    assert len(reply.headers["x-amz-request-id"]) == 16
    assert reply.headers["x-amz-id-2"]


@pytest.mark.parametrize("subresource", ["torrent", "restore", "select", "annotation"])
async def test_a_subresource_that_is_not_here_is_never_the_object_itself(s3: Signer, subresource: str) -> None:
    await s3.send("PUT", "/refusals/k", body=b"hello")
    for method in ("GET", "PUT", "POST"):
        reply = await s3.send(
            method, "/refusals/k", query=[(subresource, "")], body=b"" if method == "GET" else b"<x/>"
        )
        assert (reply.status, reply.code) in ((501, "NotImplemented"), (405, "MethodNotAllowed"))
    assert (await s3.send("GET", "/refusals/k")).body == b"hello"


async def test_a_stranger_may_nothing(s3: Signer) -> None:
    await s3.send("PUT", "/refusals/k", body=b"secret")
    for method, path in (
        ("GET", "/"),
        ("GET", "/refusals"),
        ("GET", "/refusals/k"),
        ("PUT", "/refusals/x"),
        ("PUT", "/mine"),
    ):
        reply = await send(s3.running, method, path, {"host": s3.host, "content-length": "0"})
        assert (reply.status, reply.code) == (403, "AccessDenied")
    alice = Signer(s3.running, "ALICEALICEALICEALICE", "alice's secret key")
    for method, path in (
        ("GET", "/refusals"),
        ("GET", "/refusals/k"),
        ("DELETE", "/refusals/k"),
        ("GET", "/refusals/none"),
    ):
        reply = await alice.send(method, path)
        assert (reply.status, reply.code) == (403, "AccessDenied")
