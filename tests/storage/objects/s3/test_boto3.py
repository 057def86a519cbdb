"""The tour of a client: boto3 with its defaults, integrity protections included."""

import urllib.request
from typing import Any

from tests.storage.objects.s3.running import Running, aside


async def test_what_boto3_puts_it_gets_lists_and_shares(running: Running) -> None:
    def tour() -> None:
        s3 = running.client()
        s3.create_bucket(Bucket="tour")
        s3.put_object(Bucket="tour", Key="a/b c+ü.txt", Body=b"hello", Metadata={"k": "v"}, ContentType="text/plain")
        got = s3.get_object(Bucket="tour", Key="a/b c+ü.txt")
        assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (b"hello", {"k": "v"}, "text/plain")
        listed: Any = s3.list_objects_v2(Bucket="tour")
        assert [one["Key"] for one in listed["Contents"]] == ["a/b c+ü.txt"]
        url = s3.generate_presigned_url("get_object", Params={"Bucket": "tour", "Key": "a/b c+ü.txt"})
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.read() == b"hello"
        s3.delete_object(Bucket="tour", Key="a/b c+ü.txt")
        s3.delete_bucket(Bucket="tour")
        assert [one["Name"] for one in s3.list_buckets()["Buckets"]] == []

    await aside(tour)
