"""`Expect: 100-continue` on a connection that is used again, as botocore uses it.

Before it sends a body from a file, botocore waits for the interim answer. A final answer that comes instead, and leaves the
connection open, confuses it for good: it takes the next answer's status line for a header. So an empty body is asked for too.
"""

import asyncio
import io
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tests.storage.objects.s3.running import Running, aside


async def test_an_empty_file_between_others_leaves_the_connection_in_order(running: Running) -> None:
    def tour() -> None:
        s3 = running.client(config={"max_pool_connections": 1})
        s3.create_bucket(Bucket="expect")
        for number, size in enumerate([0, 10, 0, 200_000, 0, 0, 10]):
            answer = s3.put_object(Bucket="expect", Key=str(number), Body=io.BytesIO(b"x" * size))
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
            assert "etag" in answer["ResponseMetadata"]["HTTPHeaders"]
        listed = s3.list_objects_v2(Bucket="expect")["Contents"]
        assert [one["Size"] for one in listed] == [0, 10, 0, 200_000, 0, 0, 10]

    await asyncio.wait_for(aside(tour), 30)


async def test_a_refusal_instead_of_the_interim_answer_does_not_confuse_what_follows(running: Running) -> None:
    def tour() -> None:
        s3 = running.client(config={"max_pool_connections": 1})
        s3.create_bucket(Bucket="expect")
        for size in (0, 10, 200_000, 5_000_000):
            try:
                s3.put_object(Bucket="no-such-bucket", Key="k", Body=io.BytesIO(b"x" * size))
            except s3.exceptions.NoSuchBucket:
                pass
            else:
                raise AssertionError("a bucket that is not there took an object")
            s3.put_object(Bucket="expect", Key=str(size), Body=io.BytesIO(b"y" * size))
        assert len(s3.list_objects_v2(Bucket="expect")["Contents"]) == 4

    await asyncio.wait_for(aside(tour), 30)


async def test_a_folder_with_empty_files_goes_up_by_the_aws_command_line(running: Running, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02}").write_bytes(b"z" * (number % 3) * 1000)
    await aside(running.client().create_bucket, Bucket="sync")
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": running.access_key,
        "AWS_SECRET_ACCESS_KEY": running.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }
    aws = [str(Path(sys.executable).with_name("aws")), "--endpoint-url", running.address, "s3"]
    command = [*aws, "sync", "--no-progress", str(folder), "s3://sync/"]
    process = await aside(subprocess.run, command, env=environment, capture_output=True, text=True, timeout=50)
    assert process.returncode == 0, process.stderr
    listed = await aside(running.client().list_objects_v2, Bucket="sync")
    assert [one["Size"] for one in listed["Contents"]] == [number % 3 * 1000 for number in range(60)]


async def test_an_interim_answer_comes_first_or_the_connection_ends(running: Running) -> None:
    reader, writer = await asyncio.open_connection(*_where(running))
    writer.write(
        b"PUT /nobody/empty HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 0\r\n"
        b"x-amz-content-sha256: UNSIGNED-PAYLOAD\r\n\r\n"
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    if not head.startswith(b"HTTP/1.1 100 "):
        assert b"connection: close" in head.lower()
    writer.close()


def _where(running: Running) -> tuple[str, int]:
    parts = urlsplit(running.address)
    return str(parts.hostname), int(parts.port or 0)
