"""What boto3 and the AWS command line presign unless they are told otherwise."""

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import boto3

from tests.storage.objects.s3.conftest import started
from tests.storage.objects.s3.running import Running, aside


def plain(running: Running) -> Any:
    """boto3 with nothing set that it does not need."""
    return boto3.client(
        "s3",
        endpoint_url=running.address,
        region_name="us-east-1",
        aws_access_key_id=running.access_key,
        aws_secret_access_key=running.secret_key,
    )


def fetch(url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


async def test_a_url_that_boto3_presigns_by_default_reads_and_writes(running: Running) -> None:
    s3 = plain(running)
    await aside(s3.create_bucket, Bucket="shared")
    wanted = {"Bucket": "shared", "Key": "a b/ä.txt", "ContentType": "text/plain"}
    put = s3.generate_presigned_url("put_object", Params=wanted)
    assert "AWSAccessKeyId=" in put
    assert (await aside(fetch, put, "PUT", b"by url", **{"content-type": "text/plain"}))[0] == 200
    get = s3.generate_presigned_url("get_object", Params={"Bucket": "shared", "Key": "a b/ä.txt"})
    assert await aside(fetch, get) == (200, b"by url")
    assert b"SignatureDoesNotMatch" in (await aside(fetch, get.replace(".txt", ".exe")))[1]
    assert b"SignatureDoesNotMatch" in (await aside(fetch, get, "DELETE"))[1]
    assert b"InvalidAccessKeyId" in (await aside(fetch, get.replace(running.access_key, "A" * 20)))[1]
    late = s3.generate_presigned_url("get_object", Params={"Bucket": "shared", "Key": "a b/ä.txt"}, ExpiresIn=-1)
    assert b"Request has expired" in (await aside(fetch, late))[1]


async def test_a_form_that_boto3_signs_by_default_uploads(running: Running) -> None:
    s3 = plain(running)
    await aside(s3.create_bucket, Bucket="forms")
    form = s3.generate_presigned_post("forms", "up/${filename}", Conditions=[["starts-with", "$key", "up/"]])
    assert "signature" in form["fields"]

    def body(fields: dict[str, str]) -> bytes:
        parts = [
            f'--b\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
        ]
        parts.append('--b\r\ncontent-disposition: form-data; name="file"; filename="x.txt"\r\n\r\nhello\r\n--b--\r\n')
        return "".join(parts).encode()

    kind = {"content-type": "multipart/form-data; boundary=b"}
    fields = {**form["fields"], "key": "up/x.txt"}
    assert (await aside(fetch, form["url"], "POST", body(fields), **kind))[0] == 204
    wrong = {**fields, "signature": "A" * 27 + "="}
    assert b"SignatureDoesNotMatch" in (await aside(fetch, form["url"], "POST", body(wrong), **kind))[1]
    got = await aside(s3.get_object, Bucket="forms", Key="up/x.txt")
    assert await aside(got["Body"].read) == b"hello"


async def test_an_operator_can_switch_it_off(tmp_path: Path) -> None:
    async with started(tmp_path, **{"objects.signature_v2": "false"}) as running:
        s3 = plain(running)
        await aside(s3.create_bucket, Bucket="strict")
        url = s3.generate_presigned_url("get_object", Params={"Bucket": "strict", "Key": "k"})
        status, text = await aside(fetch, url)
        assert status == 400 and b"Signature Version 2 is switched off here" in text
