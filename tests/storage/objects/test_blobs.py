"""The port `Blobs` on the engine in process, and on an S3 through obstore: our own door, over the network."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

from mainspring.core.problems import Invalid, Unavailable
from mainspring.storage.objects.blobs import ObjectBlobs
from mainspring.storage.objects.cloud import CloudBlobs, open_store
from tests.core.blobs_contract import BlobsContract
from tests.needs import need_module
from tests.storage.objects.conftest import MakeStore
from tests.storage.objects.s3.conftest import started
from tests.storage.objects.s3.running import Running, aside


class TestEngine(BlobsContract):
    @pytest.fixture
    async def blobs(self, make_store: MakeStore) -> ObjectBlobs:
        return ObjectBlobs((await make_store(1)).objects)

    async def test_without_a_door_there_is_nothing_to_presign(self, blobs: ObjectBlobs) -> None:
        with pytest.raises(Unavailable):
            await blobs.presign("k")
        with pytest.raises(Invalid):
            await blobs.presign("k", method="DELETE")


class TestCloud(BlobsContract):
    @pytest.fixture
    async def running(self, tmp_path: Path) -> AsyncIterator[Running]:
        need_module("obstore")
        async with started(tmp_path) as one:
            yield one

    @pytest.fixture
    async def blobs(self, running: Running) -> CloudBlobs:
        await aside(running.client().create_bucket, Bucket="cloud")
        keys = f"{quote(running.access_key)}:{quote(running.secret_key, safe='')}"
        return CloudBlobs(f"s3://{keys}@cloud/some/prefix?endpoint={running.address}")

    async def test_a_presigned_url_gets_and_puts(self, blobs: CloudBlobs) -> None:
        await blobs.put("k", b"abc")

        def fetch(url: str, body: bytes | None = None) -> Any:
            with urlopen(Request(url, data=body, method="GET" if body is None else "PUT"), timeout=30) as answer:
                return answer.read()

        assert await aside(fetch, await blobs.presign("k")) == b"abc"
        await aside(fetch, await blobs.presign("new", method="PUT"), b"put by a stranger")
        assert await blobs.get("new") == b"put by a stranger"
        with pytest.raises(Invalid):
            await blobs.presign("k", expires_s=604_801)


@pytest.mark.parametrize("address", ["http://bucket", "s3://", "s3://bucket?nonsense=1"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    need_module("obstore")
    with pytest.raises(ValueError, match=r"address|s3://"):
        open_store(address)
