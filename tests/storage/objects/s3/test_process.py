"""The S3 door of a server as a stranger starts it: keys from the command line, accounts from a file, and after kill -9."""

import json
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.fixtures_server import Server, StartServer
from tests.storage.objects.s3.conftest import ACCOUNTS


def client(server: Server, access_key: str, secret_key: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=server.listener("s3").rstrip("/"),
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )


def test_what_was_answered_is_there_after_kill_9_and_keys_still_sign(start_server: StartServer, tmp_path: Path) -> None:
    accounts = tmp_path / "accounts.json"
    accounts.write_bytes(msgspec.json.encode(ACCOUNTS))
    server = start_server("objects", "--accounts", str(accounts), settings=("objects.free_bytes_enough=0",))
    keys = json.loads(server.command("token", "create", "objects", "--json"))
    assert {"token", "access_key", "secret_key"} <= set(keys)
    owner = client(server, keys["access_key"], keys["secret_key"])
    owner.create_bucket(Bucket="kept")
    body = bytes(range(256)) * 2_000
    owner.put_object(Bucket="kept", Key="small", Body=b"hello")
    owner.put_object(Bucket="kept", Key="large", Body=body)
    alice = client(server, "ALICEALICEALICEALICE", "alice's secret key")
    with pytest.raises(ClientError) as refused:
        alice.get_object(Bucket="kept", Key="small")
    assert refused.value.response["Error"]["Code"] == "AccessDenied"
    server.kill()
    server.start()
    owner = client(server, keys["access_key"], keys["secret_key"])
    assert owner.get_object(Bucket="kept", Key="small")["Body"].read() == b"hello"
    assert owner.get_object(Bucket="kept", Key="large")["Body"].read() == body
    server.command("token", "revoke", keys["id"])
    with pytest.raises(ClientError) as revoked:
        owner.list_buckets()
    assert revoked.value.response["Error"]["Code"] == "InvalidAccessKeyId"
