"""Small reads at once: what they give is what the rows say now, whoever wrote them, in whatever order things happen."""

import asyncio
import random
from typing import Any

import pytest

from mainspring.core.clock import SystemClock
from mainspring.core.linear import History, check, register
from mainspring.storage.objects import Objects, at_hand
from mainspring.storage.objects.errors import NoSuchKey
from mainspring.storage.objects.staging import Wish
from tests.storage.objects.conftest import MakeStore, RoomyFiles, small_settings
from tests.waiting import PATIENCE_S


async def opened(make_store: MakeStore) -> Any:
    """A store with the bucket `box` whose reads are at once however slow the machine is."""
    store = await make_store(1)
    store.database._readers._loop_budget_s = PATIENCE_S
    await store.objects.create_bucket("box")
    return store


def body(objects: Objects, key: str) -> bytes | None:
    """What a read at once gives: None where there is nothing at hand."""
    found = objects.small_reads.find("box", key)
    return None if found is None else objects.small_reads.body(found)


async def test_an_object_is_at_hand_until_it_is_replaced_deleted_or_its_bucket_is_another(
    make_store: MakeStore,
) -> None:
    objects: Objects = (await opened(make_store)).objects
    assert body(objects, "k") is None
    for value in (b"one", b"two", b"", b"two"):
        await objects.put("box", "k", value)
        assert body(objects, "k") == value
    await objects.set_tags("box", "k", {"a": "b"})
    found = objects.small_reads.find("box", "k")
    assert found is not None and found.object.tags == {"a": "b"}
    await objects.delete("box", "k")
    assert body(objects, "k") is None
    await objects.delete_bucket("box")
    await objects.create_bucket("box")
    assert body(objects, "k") is None


async def test_a_row_is_read_once_for_all_and_only_as_many_are_remembered_as_may_be(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects: Objects = (await opened(make_store)).objects
    await asyncio.gather(*(objects.put("box", f"k{number}", b"%d" % number) for number in range(20)))
    first = objects.small_reads.find("box", "k0")
    assert first is objects.small_reads.find("box", "k0")
    monkeypatch.setattr(at_hand, "REMEMBERED_MAX", 8)
    objects.small_reads._parsed.clear()
    assert [body(objects, f"k{number}") for number in range(20)] == [b"%d" % number for number in range(20)]
    assert len(objects.small_reads._parsed) == 8


async def test_what_is_large_encrypted_or_no_longer_what_was_written_is_not_at_hand(make_store: MakeStore) -> None:
    store = await opened(make_store)
    objects: Objects = store.objects
    await objects.put("box", "large", bytes(1 << 20))
    await objects.put("box", "small", b"small")
    assert body(objects, "large") is None and body(objects, "small") == b"small"
    segment = next(store.directories[0].glob("*.segment"))
    segment.write_bytes(segment.read_bytes().replace(b"small", b"smell"))
    assert body(objects, "small") is None


async def test_two_services_on_one_database_never_show_each_other_an_older_object(make_store: MakeStore) -> None:
    store = await opened(make_store)
    mine: Objects = store.objects
    other = Objects(mine.database, SystemClock(), small_settings(), directories=store.directories, files=RoomyFiles())
    for number in range(20):
        value = b"%d" % number
        await mine.put("box", "k", value, wish=Wish(metadata={"number": str(number)}))
        for reads in (other.small_reads, mine.small_reads):
            found = reads.find("box", "k")
            assert found is not None and found.object.metadata == {"number": str(number)}


async def test_reads_at_once_and_others_make_one_history_with_the_writes_between_them(make_store: MakeStore) -> None:
    objects: Objects = (await opened(make_store)).objects
    history, ticks = History(), iter(range(1_000_000))

    async def client(number: int) -> None:
        chance = random.Random(number)
        for step in range(25):
            key = f"k{chance.randrange(2)}"
            kind = chance.choice(["write", "delete", "read", "at once", "at once"])
            if kind in ("write", "delete"):
                value = b"%d/%d" % (number, step) if kind == "write" else None
                call = history.call(key, "write", value, at=next(ticks))
                await (objects.put("box", key, value) if value is not None else objects.delete("box", key))
                history.returned(call, None, at=next(ticks))
                continue
            call = history.call(key, "read", at=next(ticks))
            seen = body(objects, key) if kind == "at once" else await read(key)
            history.returned(call, seen, at=next(ticks))
            await asyncio.sleep(0)

    async def read(key: str) -> bytes | None:
        try:
            return await (await objects.get("box", key)).read()
        except NoSuchKey:
            return None

    await asyncio.gather(*(client(number) for number in range(6)))
    assert str(check(history, register(None))) == "None"
