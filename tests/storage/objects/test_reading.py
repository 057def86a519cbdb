"""Reading in pieces smaller than a stripe: every byte is checked on its way, and what must be decoded is decoded once."""

import os

import pytest

from mainspring.storage.objects import Objects, reading
from mainspring.storage.objects.errors import InternalError
from mainspring.storage.objects.extents import BLOCK
from tests.storage.objects.conftest import STRIPE_BYTES, MakeStore, RoomyFiles

SPAN = STRIPE_BYTES // 4
MIB = 1 << 20


class CountingFiles(RoomyFiles):
    """Counts the bytes that disks are asked for; nothing is in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.read_bytes = 0

    def read(self, fd: int, length: int, offset: int) -> bytes:
        self.read_bytes += length
        return super().read(fd, length, offset)

    def read_cached(self, fd: int, length: int, offset: int) -> bytes | None:
        return None


@pytest.fixture(autouse=True)
def small_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SPAN_BYTES", SPAN)


@pytest.mark.parametrize("directories", [1, 3])
async def test_any_range_of_a_body_of_several_stripes_comes_back(make_store: MakeStore, directories: int) -> None:
    objects: Objects = (await make_store(directories)).objects
    await objects.create_bucket("box")
    body = os.urandom(3 * STRIPE_BYTES + 777)
    await objects.put("box", "k", body)
    for first, last in [(0, len(body) - 1), (1, 1), (SPAN - 1, SPAN), (STRIPE_BYTES - 5, 2 * STRIPE_BYTES + 5)]:
        chunks = [bytes(chunk) async for chunk in await objects.get("box", "k", (first, last))]
        assert b"".join(chunks) == body[first : last + 1]
        assert max(map(len, chunks)) <= SPAN


async def test_a_stripe_that_lost_a_shard_is_decoded_once_however_it_is_read(make_store: MakeStore) -> None:
    store = await make_store(3)
    objects: Objects = store.objects
    await objects.create_bucket("box")
    body = os.urandom(3 * STRIPE_BYTES)
    await objects.put("box", "k", body)
    await objects.upkeep.stop()
    for disk in list(objects.engine.store.disks.values())[:1]:
        disk.fail("taken away")
    assert await (await objects.get("box", "k")).read() == body
    assert 1 <= objects.engine.store.degraded_reads <= 3


async def test_a_byte_that_differs_is_never_given_where_nothing_can_replace_it(make_store: MakeStore) -> None:
    store = await make_store(1)
    objects: Objects = store.objects
    await objects.create_bucket("box")
    body = os.urandom(STRIPE_BYTES) * 2
    await objects.put("box", "k", body)
    for path in store.directories[0].glob("*.segment"):
        data = bytearray(path.read_bytes())
        at = data.find(body[:64], data.find(body[:64]) + 1) + STRIPE_BYTES // 2
        data[at] ^= 1
        path.write_bytes(data)
    got = bytearray()

    async def read() -> None:
        async for chunk in await objects.get("box", "k"):
            got.extend(chunk)

    with pytest.raises(InternalError):
        await read()
    assert len(got) >= STRIPE_BYTES and body.startswith(got)


async def test_a_short_read_from_a_stripe_that_lost_a_shard_asks_for_no_more_than_it_depends_on(
    make_store: MakeStore,
) -> None:
    files = CountingFiles()
    objects: Objects = (await make_store(6, stripe_bytes=MIB, files=files)).objects
    await objects.create_bucket("box")
    body = os.urandom(MIB)
    await objects.put("box", "k", body)
    await objects.upkeep.stop()
    for disk in list(objects.engine.store.disks.values())[:2]:
        disk.fail("taken away")
    for first in range(0, MIB, MIB // 8):
        files.read_bytes = 0
        assert await (await objects.get("box", "k", (first + 5, first + 14))).read() == body[first + 5 : first + 15]
        assert files.read_bytes <= 4 * (BLOCK + 1024)
    assert objects.engine.store.degraded_reads
