"""What a store keeps by itself: encryption, locks, lifecycle, compaction, and events."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from mainspring.core.accounts.model import OPERATOR
from mainspring.core.clock import VirtualClock
from mainspring.core.database.core_tables import log_records
from mainspring.core.ports import Connection
from mainspring.storage.objects import Lock, LockDefault, Objects, events, references
from mainspring.storage.objects.errors import (
    AccessDenied,
    InvalidArgument,
    InvalidBucketState,
    InvalidRequest,
    KeyDisabled,
    Locked,
    NoSuchKey,
    UnknownKey,
)
from mainspring.storage.objects.keys import Encryption
from mainspring.storage.objects.lifecycle import KIND, Rule, Transition
from mainspring.storage.objects.listing import encode_token
from mainspring.storage.objects.model import Versioning
from mainspring.storage.objects.moves import Source
from mainspring.storage.objects.multipart import Wanted
from mainspring.storage.objects.staging import Wish
from tests.storage.objects.conftest import (
    SMALL_BYTES,
    STRIPE_BYTES,
    MakeStore,
    Store,
    bytes_of,
    key_store,
    keys_of,
    stores,
)

DAY_S = 86_400
CUSTOMER = Encryption("customer", key=bytes(range(32)))
ENCRYPTIONS = {"AES256": Encryption("AES256"), "aws:kms": Encryption("aws:kms", "mine"), "customer": CUSTOMER}


@pytest.fixture
async def make_store(database: Any, tmp_path: Path) -> AsyncIterator[MakeStore]:
    """On the embedded database and on PostgreSQL."""
    async with stores(database, tmp_path) as make:
        yield make


@pytest.mark.parametrize("mode", ENCRYPTIONS)
async def test_a_sealed_object_is_read_whole_and_in_ranges_and_lies_nowhere_in_the_clear(
    make_store: MakeStore, mode: str
) -> None:
    objects: Objects = await with_keys(await make_store(3), "mine")
    store = objects.engine.store
    await objects.create_bucket("box")
    key = CUSTOMER.key if mode == "customer" else None
    for size in (0, 100, SMALL_BYTES, STRIPE_BYTES, 3 * STRIPE_BYTES + 777):
        body = (b"a secret that nobody may read " * (size // 30 + 1))[:size]
        await objects.put("box", "k", body, encryption=ENCRYPTIONS[mode])
        reader = await objects.get("box", "k", customer_key=key)
        assert reader.object.sealed is not None and reader.object.sealed.mode == mode
        assert await reader.read() == body
        for first, last in ((0, 0), (size // 2, size // 2 + 70_000), (size - 1, size)):
            if 0 <= first < size:
                asked = await objects.get("box", "k", (first, last), customer_key=key)
                assert await asked.read() == body[first : last + 1]
        for disk in store.disks.values():
            for path in disk.directory.glob("*.segment"):
                assert b"secret" not in path.read_bytes()
    if mode == "customer":
        with pytest.raises(InvalidRequest):
            await objects.get("box", "k")
        with pytest.raises(AccessDenied):
            await objects.get("box", "k", customer_key=bytes(32))


async def with_keys(store: Store, *names: str) -> Objects:
    """The store opened again beside a key store that has keys of these names."""
    store.keys = await key_store(store.database, store.clock)
    for name in names:
        await store.keys.create(OPERATOR, name)
    return await store.again()


async def test_what_a_key_sealed_opens_after_its_rotation_and_not_while_it_is_disabled(make_store: MakeStore) -> None:
    clock = VirtualClock()
    store = await make_store(1, clock=clock)
    objects, keys = await with_keys(store, "mine"), store.keys
    assert keys is not None
    await objects.create_bucket("box")
    sealed = Encryption("aws:kms", "arn:aws:kms:us-east-1:111122223333:key/mine", context="eyJhIjoiYiJ9")
    old = await objects.put("box", "old", b"old", encryption=sealed)
    assert old.sealed is not None and (old.sealed.key_id, old.sealed.context) == ("mine", "eyJhIjoiYiJ9")
    await keys.rotate(OPERATOR, "mine")
    await objects.put("box", "new", b"new", encryption=Encryption("aws:kms", "alias/mine"))
    assert [await bytes_of(objects, key) for key in ("old", "new")] == [b"old", b"new"]
    await objects.put("box", "another's", b"x", encryption=Encryption("AES256"))
    await keys.disable(OPERATOR, "mine")
    for asked in (objects.get("box", "old"), objects.put("box", "k", b"", encryption=sealed)):
        with pytest.raises(KeyDisabled):
            await asked
    assert await bytes_of(objects, "another's") == b"x"
    await keys.enable(OPERATOR, "mine")
    assert await bytes_of(await store.again(), "old") == b"old"


async def test_nothing_is_stored_under_a_key_that_is_not_there(make_store: MakeStore) -> None:
    store = await make_store(1)
    await store.objects.create_bucket("box")
    with pytest.raises(InvalidRequest):
        await store.objects.put("box", "k", b"x", encryption=Encryption("AES256"))
    objects = await with_keys(store)
    for key_id in ("nobody's", "alias/nobodys", "arn:aws:kms:eu-west-1:1:key/nobodys"):
        with pytest.raises(UnknownKey):
            await objects.put("box", "k", b"x", encryption=Encryption("aws:kms", key_id))
        with pytest.raises(UnknownKey):
            await objects.uploads.begin("box", "k", Wish(encryption=Encryption("aws:kms", key_id)))
    assert await keys_of(objects) == []


async def test_parts_and_copies_are_sealed_as_asked(make_store: MakeStore) -> None:
    objects = await with_keys(await make_store(1), "x")
    await objects.create_bucket("box")
    id = await objects.uploads.begin("box", "k", Wish(encryption=CUSTOMER))
    parts = [
        random.Random(number).randbytes(size) for number, size in enumerate((STRIPE_BYTES + 7, 2 * STRIPE_BYTES, 3))
    ]
    rows = [
        await objects.uploads.put_part("box", "k", id, number, part, customer_key=CUSTOMER.key)
        for number, part in enumerate(parts, 1)
    ]
    await objects.uploads.complete("box", "k", id, [Wanted(row.number, row.etag) for row in rows])
    body = b"".join(parts)
    assert await bytes_of(objects, "k", customer_key=CUSTOMER.key) == body
    middle = (STRIPE_BYTES - 3, 3 * STRIPE_BYTES + 8)
    assert await bytes_of(objects, "k", customer_key=CUSTOMER.key, range=middle) == body[middle[0] : middle[1] + 1]
    await objects.copy(Source("box", "k"), "box", "plain", source_customer_key=CUSTOMER.key)
    assert (await objects.head("box", "plain")).sealed is None and await bytes_of(objects, "plain") == body
    await objects.copy(Source("box", "plain"), "box", "kms", encryption=Encryption("aws:kms", "x"))
    await objects.copy(Source("box", "kms"), "box", "by reference")
    assert await bytes_of(objects, "by reference") == body


async def test_a_locked_version_stays_whoever_asks(make_store: MakeStore) -> None:
    clock = VirtualClock()
    objects = (await make_store(1, clock=clock)).objects
    await objects.create_bucket("box", lock=True)
    with pytest.raises(InvalidBucketState):
        await objects.set_versioning("box", Versioning.SUSPENDED)
    until_us = objects.now_us() + 10 * DAY_S * 1_000_000
    compliance = await objects.put("box", "c", b"c", lock=Lock("COMPLIANCE", until_us))
    governance = await objects.put("box", "g", b"g", lock=Lock("GOVERNANCE", until_us))
    held = await objects.put("box", "h", b"h")
    await objects.set_legal_hold("box", "h", True)
    for key, version in (("c", compliance.version), ("g", governance.version), ("h", held.version)):
        with pytest.raises(Locked):
            await objects.delete("box", key, version)
        assert (await objects.delete("box", key)).marker
    for key, version in (("c", compliance.version), ("h", held.version)):
        with pytest.raises(Locked):
            await objects.delete("box", key, version, bypass_governance=True)
    with pytest.raises(Locked):
        await objects.set_retention("box", "c", "COMPLIANCE", until_us - 1, compliance.version, bypass_governance=True)
    with pytest.raises(Locked):
        await objects.set_retention("box", "c", None, None, compliance.version, bypass_governance=True)
    with pytest.raises(Locked):
        await objects.set_retention("box", "g", "GOVERNANCE", until_us - 1, governance.version)
    with pytest.raises(InvalidArgument):
        await objects.set_retention("box", "g", "GOVERNANCE", 1, governance.version)
    await objects.set_retention("box", "c", "COMPLIANCE", until_us + 5_000_000, compliance.version)
    await objects.delete("box", "g", governance.version, bypass_governance=True)
    await objects.set_legal_hold("box", "h", False, held.version)
    await objects.delete("box", "h", held.version)
    assert await bytes_of(objects, "c", version=compliance.version) == b"c"
    await clock.advance(10 * DAY_S + 6)
    await objects.delete("box", "c", compliance.version)


async def test_a_bucket_gives_its_default_lock_to_new_versions(objects: Objects) -> None:
    with pytest.raises(InvalidBucketState):
        await objects.set_lock_default("box", LockDefault("GOVERNANCE", days=1))
    await objects.put("box", "k", b"")
    with pytest.raises(InvalidRequest):
        await objects.set_legal_hold("box", "k", True)
    await objects.set_versioning("box", Versioning.ENABLED)
    await objects.set_lock_default("box", LockDefault("GOVERNANCE", days=2))
    made = await objects.put("box", "k", b"x")
    assert made.lock == Lock("GOVERNANCE", made.seq + 2 * DAY_S * 1_000_000)
    with pytest.raises(Locked):
        await objects.delete("box", "k", made.version)


async def lifecycle_store(make_store: MakeStore, *rules: Rule, versioned: bool = False) -> tuple[Objects, VirtualClock]:
    import msgspec

    clock = VirtualClock()
    objects: Objects = (await make_store(6, clock=clock, storage_classes={"GLACIER": "3+3"})).objects
    await objects.create_bucket("box")
    if versioned:
        await objects.set_versioning("box", Versioning.ENABLED)
    await objects.set_setting("box", KIND, msgspec.json.encode(list(rules)))
    return objects, clock


async def test_objects_expire_by_days_prefix_tag_and_size(make_store: MakeStore) -> None:
    objects, clock = await lifecycle_store(
        make_store,
        Rule(prefix="tmp/", expire_days=1),
        Rule(tags={"keep": "no"}, expire_days=2),
        Rule(size_over=1000, size_under=5000, expire_days=3),
        Rule(enabled=False, expire_days=1),
    )
    await clock.advance(DAY_S / 2)
    await objects.put("box", "tmp/1", b"x")
    await objects.put("box", "tagged", b"x", tags={"keep": "no", "a": "b"})
    await objects.put("box", "sized", bytes(1001))
    await objects.put("box", "stays", bytes(1000), tags={"keep": "yes"})
    await objects.sweep()
    assert len(await keys_of(objects)) == 4
    for expected in (
        ["sized", "stays", "tagged", "tmp/1"],
        ["sized", "stays", "tagged"],
        ["sized", "stays"],
        ["stays"],
    ):
        await clock.advance(DAY_S)
        await objects.sweep()
        assert await keys_of(objects) == expected


async def test_expiry_ends_at_midnight_and_at_a_date(make_store: MakeStore) -> None:
    objects, clock = await lifecycle_store(make_store, Rule(expire_days=1, prefix="a"))
    await clock.advance(DAY_S / 2)
    await objects.put("box", "a", b"")
    await clock.advance(DAY_S + 60)
    await objects.sweep()
    assert await keys_of(objects) == ["a"]
    await clock.advance(DAY_S / 2)
    await objects.sweep()
    assert await keys_of(objects) == []


async def test_noncurrent_versions_go_but_for_the_newest_and_so_do_markers_that_hide_nothing(
    make_store: MakeStore,
) -> None:
    rules = (Rule(noncurrent_days=1, noncurrent_newer=2), Rule(expired_marker=True), Rule(prefix="gone", expire_days=1))
    objects, clock = await lifecycle_store(make_store, *rules, versioned=True)
    made = [await objects.put("box", "k", b"%d" % number) for number in range(6)]
    await objects.put("box", "gone", b"x")
    await clock.advance(2 * DAY_S)
    await objects.sweep()
    left = [one.version for one in (await objects.list_versions("box", "k")).entries]
    assert left == [one.version for one in reversed(made[3:])]
    assert [one.marker for one in (await objects.list_versions("box", "gone")).entries] == [True, False]
    marker, version = (await objects.list_versions("box", "gone")).entries
    await objects.delete("box", "gone", version.version)
    await objects.sweep()
    assert (await objects.list_versions("box", "gone")).entries == [] and marker.latest


async def test_a_transition_changes_the_class_and_the_erasure_profile(make_store: MakeStore) -> None:
    objects, clock = await lifecycle_store(
        make_store, Rule(transitions=(Transition("GLACIER", days=1),)), Rule(abort_days=1)
    )
    bodies = {"k": bytes(2 * STRIPE_BYTES), "small": b"in a shared page", "other": b"beside it"}
    await asyncio.gather(*(objects.put("box", key, body) for key, body in bodies.items()))
    upload = await objects.uploads.begin("box", "k")
    await clock.advance(2 * DAY_S)
    await objects.sweep()
    for key, body in bodies.items():
        assert (await objects.head("box", key)).storage_class == "GLACIER" and await bytes_of(objects, key) == body
    rows = await objects.database.read(references.stripes_after, 0, 100)
    assert {str(stripe.profile) for stripe, _ in rows} == {"3+3"}
    assert (await objects.uploads.list("box")).uploads == [] and upload


async def test_dead_bytes_are_given_back(make_store: MakeStore) -> None:
    store = await make_store(3, segment_bytes=256 << 10)
    objects: Objects = store.objects
    await objects.create_bucket("box")
    bodies = {f"k{number:02}": random.Random(number).randbytes(number % 5 * 20_000 + 500) for number in range(40)}
    for key, body in bodies.items():
        await objects.put("box", key, body)
    for key in [key for key in bodies if key[-1] not in "05"]:
        await objects.delete("box", key)
        del bodies[key]
    used = sum(disk.used_bytes for disk in await objects.upkeep.disks())
    reader = await objects.get("box", "k20")
    await objects.upkeep.compact()
    assert sum(disk.used_bytes for disk in await objects.upkeep.disks()) >= used, "somebody may be reading"
    assert await reader.read() == bodies["k20"]
    while await objects.upkeep.compact():
        pass
    assert sum(disk.used_bytes for disk in await objects.upkeep.disks()) < used / 2
    for key, body in bodies.items():
        assert await bytes_of(objects, key) == body
    objects = await store.again()
    while await objects.upkeep.compact():
        pass
    usage = await objects.upkeep.usage()
    for disk in objects.engine.store.disks.values():
        for segment in disk.segments.values():
            assert not segment.sealed or 2 * usage.live.get((disk.id, segment.number), 0) >= segment.size
    for key, body in bodies.items():
        assert await bytes_of(objects, key) == body


async def test_a_page_of_which_little_is_left_is_packed_again(make_store: MakeStore) -> None:
    objects = (await make_store(1)).objects
    await objects.create_bucket("box")
    await asyncio.gather(*(objects.put("box", f"k{number:03}", b"%d" % number * 100) for number in range(60)))
    await objects.copy(Source("box", "k007"), "box", "copy of k007")
    for number in range(60):
        if number % 7:
            await objects.delete("box", f"k{number:03}")
    before = await objects.upkeep.usage()
    await objects.upkeep.compact()
    after = await objects.upkeep.usage()
    assert after.payload_bytes < before.payload_bytes / 2 and after.live_bytes == before.live_bytes
    for number in range(0, 60, 7):
        assert await bytes_of(objects, f"k{number:03}") == b"%d" % number * 100
    assert await bytes_of(objects, "copy of k007") == b"7" * 100


async def test_bytes_outlive_their_deletion_for_a_reader_who_was_only_told_where_they_are(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = (await make_store(1, segment_bytes=128 << 10)).objects
    await objects.create_bucket("box")
    body = random.Random(1).randbytes(4 * STRIPE_BYTES)
    await objects.put("box", "k", body)
    found, go_on, find = asyncio.Event(), asyncio.Event(), objects._find

    async def slow_find(*asked: Any) -> Any:
        rows = await find(*asked)
        found.set()
        await go_on.wait()
        return rows

    monkeypatch.setattr(objects, "_find", slow_find)
    reading = asyncio.create_task(bytes_of(objects, "k"))
    async with asyncio.timeout(60):
        await found.wait()
        await objects.delete("box", "k")
        for _ in range(3):
            await objects.upkeep.compact()
        go_on.set()
        assert await reading == body
    await objects.upkeep.compact()
    assert (await objects.upkeep.usage()).stripes == 0


async def test_an_object_being_read_outlives_its_deletion_and_compaction(make_store: MakeStore) -> None:
    objects = (await make_store(1, segment_bytes=128 << 10)).objects
    await objects.create_bucket("box")
    body = random.Random(1).randbytes(80 * STRIPE_BYTES)
    await objects.put("box", "k", body)
    reader = aiter(await objects.get("box", "k"))
    got = [bytes(await anext(reader))]
    await objects.delete("box", "k")
    await objects.upkeep.compact()
    got += [bytes(chunk) async for chunk in reader]
    assert b"".join(got) == body
    await objects.upkeep.compact()
    assert (await objects.upkeep.usage()).stripes == 0


def events_of(connection: Connection, topic: str) -> list[bytes]:
    rows = connection.execute(
        select(log_records.c.value).where(log_records.c.topic == topic).order_by(log_records.c.id)
    ).all()
    return [row[0] for row in rows]


async def test_every_mutation_is_one_event_in_order_and_a_refused_one_is_none(objects: Objects) -> None:
    await objects.put("box", "k", b"1")
    await objects.set_tags("box", "k", {"a": "b"})
    with pytest.raises(NoSuchKey):
        await objects.rename("box", "absent", "x")
    await objects.copy(Source("box", "k"), "box", "c")
    await objects.rename("box", "k", "r")
    await objects.delete("box", "r")
    await objects.delete("box", "r")
    told = [events.decode(value) for value in await objects.database.read(events_of, events.topic("box"))]
    assert [(one.name, one.key) for one in told] == [
        ("BucketCreated", ""),
        ("ObjectCreated:Put", "k"),
        ("ObjectTagging:Put", "k"),
        ("ObjectCreated:Copy", "c"),
        ("ObjectRenamed", "r"),
        ("ObjectRemoved:Delete", "r"),
    ]
    assert all(one.bucket == "box" for one in told)
    assert [one.seq for one in told] == sorted(one.seq for one in told)


async def test_a_body_of_any_size_is_taken_in_within_bounded_memory(make_store: MakeStore) -> None:
    objects = (await make_store(1, stripe_bytes=256 << 10)).objects
    await objects.create_bucket("box")
    store, alive, most = objects.engine.store, 0, 0
    write = store.write

    async def watched(payload: bytes, wanted: Any = None) -> Any:
        nonlocal alive, most
        alive += len(payload)
        most = max(most, alive)
        try:
            return await write(payload, wanted)
        finally:
            alive -= len(payload)

    store.write = watched  # type: ignore[method-assign]

    async def long_body() -> Any:
        for number in range(800):
            await asyncio.sleep(0)
            yield bytes([number % 251]) * 20_000

    made = await objects.put("box", "k", long_body())
    assert made.size == 16_000_000 and most == 256 << 10, "one stripe at a time is on its way"


def test_a_token_tells_its_place() -> None:
    from mainspring.storage.objects.listing import Token, decode_token

    token = Token(b"k\x00\xff", 2**50, -5)
    assert decode_token(encode_token(token)) == token
