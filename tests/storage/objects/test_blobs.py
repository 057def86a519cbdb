"""The port `Blobs` on the engine in process, and on an S3 through obstore: our own door, over the network."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

from mainspring.core.application import Mainspring, prepare_all
from mainspring.core.backup import restore
from mainspring.core.config import load
from mainspring.core.ports import Blobs
from mainspring.core.problems import Invalid, Unavailable
from mainspring.storage.objects import Objects
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

        assert await aside(fetch, await blobs.presign("k")) == b"abc"
        await aside(fetch, await blobs.presign("new", method="PUT"), b"put by a stranger")
        assert await blobs.get("new") == b"put by a stranger"
        with pytest.raises(Invalid):
            await blobs.presign("k", expires_s=604_801)


class TestPort(BlobsContract):
    """The port as systems get it: from the wiring of an application."""

    @pytest.fixture
    async def running(self, tmp_path: Path) -> AsyncIterator[Running]:
        async with started(tmp_path) as one:
            yield one

    @pytest.fixture
    async def blobs(self, running: Running) -> Any:
        return await running.mainspring.service(cast(Any, Blobs))

    async def test_its_urls_are_answered_by_the_door(self, blobs: Any) -> None:
        await blobs.put("a/b=c", b"abc")
        assert await aside(fetch, await blobs.presign("a/b=c")) == b"abc"


async def test_the_configuration_chooses_an_s3(tmp_path: Path) -> None:
    need_module("obstore")
    (tmp_path / "other").mkdir()
    async with started(tmp_path / "other") as door:
        await aside(door.client().create_bucket, Bucket="cloud")
        address = f"s3://{quote(door.access_key)}:{quote(door.secret_key, safe='')}@cloud?endpoint={door.address}"
        async with started(tmp_path, blobs=address) as one:
            blobs: Blobs = await one.mainspring.service(cast(Any, Blobs))
            assert isinstance(blobs, CloudBlobs)
            await blobs.put("k", b"over there")
        listed = await aside(door.client().list_objects_v2, Bucket="cloud")
        assert [entry["Key"] for entry in listed["Contents"]] == ["k"]


async def test_a_backup_under_load_restores_to_one_moment(tmp_path: Path) -> None:
    async with started(tmp_path) as one:
        blobs: Blobs = await one.mainspring.service(cast(Any, Blobs))
        objects = await one.mainspring.service(Objects)
        stop = asyncio.Event()
        written = asyncio.Event()

        async def write() -> None:
            number = 0
            while not stop.is_set():
                body = bytes([number % 251]) * (200_000 if number % 3 else 100)
                await blobs.put(f"k{number % 5}", body, metadata={"number": str(number)})
                await objects.upkeep.compact()
                number += 1
                if number == 10:
                    written.set()

        writing = asyncio.create_task(write())
        await asyncio.wait_for(written.wait(), 60)
        await one.mainspring.actions["backup"]({"target": str(tmp_path / "backup")})
        stop.set()
        await writing
    await restore(tmp_path / "backup", tmp_path / "restored" / "data", prepare=prepare_all)
    config = load(settings=(), data=str(tmp_path / "restored" / "data"), port=0, environment={})
    async with Mainspring(["objects"], config) as again:
        restored: Blobs = await again.service(cast(Any, Blobs))
        for found in (await restored.list()).blobs:
            number = int((await restored.head(found.name)).metadata["number"])
            assert await restored.get(found.name) == bytes([number % 251]) * found.size
        assert len((await restored.list()).blobs) == 5


def fetch(url: str, body: bytes | None = None) -> bytes:
    with urlopen(Request(url, data=body, method="GET" if body is None else "PUT"), timeout=30) as answer:
        answered: bytes = answer.read()
    return answered


@pytest.mark.parametrize("address", ["http://bucket", "s3://", "s3://bucket?nonsense=1"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    need_module("obstore")
    with pytest.raises(ValueError, match=r"address|s3://"):
        open_store(address)
