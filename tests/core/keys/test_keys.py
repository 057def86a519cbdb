"""Named keys: what they wrap, who may still open it, and the master key below them."""

from base64 import b64encode
from typing import Any

import pytest

from mainspring.core.accounts import store as accounts
from mainspring.core.accounts.model import OPERATOR
from mainspring.core.clock import VirtualClock
from mainspring.core.keys import KeyDisabled, KeyStore, KeyTaken, MasterKeyError, NotAuthentic, UnknownKey
from mainspring.core.keys.http import routes
from mainspring.core.keys.service import REMEMBERED_NS, REWRAPPED_AT_ONCE
from mainspring.core.keys.tables import keys as key_table
from mainspring.core.keys.tables import masters, versions
from mainspring.core.ports import Connection
from mainspring.core.problems import Invalid
from tests.asgi import call
from tests.core.keys.conftest import OpenKeys

DATA_KEY = bytes(range(32))
FIRST, SECOND = (b64encode(bytes([one]) * 32).decode() for one in (1, 2))


async def test_what_is_wrapped_opens_only_under_its_key_and_context(open_keys: OpenKeys) -> None:
    store = await open_keys()
    await store.create(OPERATOR, "photos")
    await store.create(OPERATOR, "letters")
    wrapped = await store.wrap("photos", DATA_KEY, b"of album 1")
    assert DATA_KEY not in wrapped and wrapped != await store.wrap("photos", DATA_KEY, b"of album 1")
    assert await store.unwrap("photos", wrapped, b"of album 1") == DATA_KEY
    spoiled = wrapped[:-1] + bytes([wrapped[-1] ^ 1])
    for name, what, context in (
        ("letters", wrapped, b"of album 1"),
        ("photos", wrapped, b"of album 2"),
        ("photos", spoiled, b"of album 1"),
        ("photos", b"\0\0\0\x09" + wrapped[4:], b"of album 1"),
        ("photos", b"", b"of album 1"),
        ("photos", wrapped[:4], b"of album 1"),
    ):
        with pytest.raises(NotAuthentic):
            await store.unwrap(name, what, context)


async def test_a_rotated_key_opens_all_that_it_ever_wrapped(open_keys: OpenKeys, now: VirtualClock) -> None:
    store = await open_keys()
    await store.create(OPERATOR, "photos")
    wrapped = [await store.wrap("photos", DATA_KEY)]
    for version in (2, 3):
        await now.advance(1)
        rotated = await store.rotate(OPERATOR, "photos")
        assert rotated.versions == version and rotated.rotated_us > rotated.created_us
        wrapped.append(await store.wrap("photos", DATA_KEY))
    assert [one[:4] for one in wrapped] == [bytes([0, 0, 0, number]) for number in (1, 2, 3)]
    again = await open_keys()
    assert [await again.unwrap("photos", one) for one in wrapped] == [DATA_KEY] * 3


async def test_a_disabled_key_is_refused_here_at_once_and_on_another_node_within_a_second(
    open_keys: OpenKeys, now: VirtualClock
) -> None:
    here, there = await open_keys(), await open_keys()
    await here.create(OPERATOR, "photos")
    wrapped = await there.wrap("photos", DATA_KEY)
    await here.disable(OPERATOR, "photos")
    for asked in (here.wrap("photos", DATA_KEY), here.unwrap("photos", wrapped)):
        with pytest.raises(KeyDisabled):
            await asked
    await now.advance(REMEMBERED_NS / 1e9)
    with pytest.raises(KeyDisabled):
        await there.unwrap("photos", wrapped)
    await there.enable(OPERATOR, "photos")
    assert await there.unwrap("photos", wrapped) == DATA_KEY


async def test_a_name_is_given_once_and_a_key_that_is_not_there_does_nothing(open_keys: OpenKeys) -> None:
    store = await open_keys()
    await store.create(OPERATOR, "photos")
    with pytest.raises(KeyTaken):
        await store.create(OPERATOR, "photos")
    await store.ensure("photos")
    for asked in (store.rotate(OPERATOR, "x"), store.disable(OPERATOR, "x"), store.wrap("x", b""), store.key("x")):
        with pytest.raises(UnknownKey):
            await asked
    for name in ("", "a b", "../x", "x" * 129, "ü"):
        with pytest.raises(Invalid):
            await store.create(OPERATOR, name)
    assert [(key.name, key.versions) for key in await store.keys()] == [("photos", 1)]


async def test_every_change_is_in_the_audit_log(open_keys: OpenKeys, database: Any) -> None:
    store = await open_keys()
    await store.create(OPERATOR, "photos", "192.0.2.1")
    for change in (store.rotate, store.disable, store.enable):
        await change(OPERATOR, "photos")
    noted = await database.read(accounts.audit_before, 2**62, 10)
    assert [(entry.action, entry.target) for entry in reversed(noted)] == [
        (f"key.{what}", "photos") for what in ("created", "rotated", "disabled", "enabled")
    ]
    assert noted[-1].address == "192.0.2.1"


def stored(connection: Connection) -> set[str]:
    """The master keys under which material is wrapped."""
    return {row[0] for row in connection.execute(versions.select().with_only_columns(versions.c.master), {}).all()}


def own_masters(connection: Connection) -> int:
    return len(connection.execute(masters.select(), {}).all())


async def test_a_master_key_that_is_given_takes_the_place_of_the_databases_own(
    open_keys: OpenKeys, database: Any
) -> None:
    store = await open_keys()
    await store.create(OPERATOR, "photos")
    wrapped = await store.wrap("photos", DATA_KEY)
    assert await database.read(own_masters) == 1
    given = await open_keys(FIRST)
    assert await given.unwrap("photos", wrapped) == DATA_KEY and await database.read(own_masters) == 0
    # A node that was not given it would wrap under a key that is lost, or under one of its own.
    with pytest.raises(MasterKeyError):
        await store.create(OPERATOR, "letters")
    for master in ("", SECOND):
        with pytest.raises(MasterKeyError):
            await open_keys(master)
    assert [key.name for key in await given.keys()] == ["photos"]


async def test_a_master_key_is_changed_by_putting_the_new_one_first(open_keys: OpenKeys, database: Any) -> None:
    store = await open_keys(FIRST)
    for number in range(REWRAPPED_AT_ONCE + 20):
        await store.create(OPERATOR, f"key-{number}")
    wrapped = await store.wrap("key-7", DATA_KEY)
    before = await database.read(stored)
    both = await open_keys(f"{SECOND} {FIRST}")
    after = await database.read(stored)
    assert len(before) == len(after) == 1 and before != after
    assert await both.unwrap("key-7", wrapped) == DATA_KEY
    assert await (await open_keys(SECOND)).unwrap("key-7", wrapped) == DATA_KEY


@pytest.mark.parametrize("text", ["short", "AAAA", FIRST + " " + "A" * 44 + "!"])
def test_a_master_key_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(MasterKeyError):
        KeyStore(None, VirtualClock(), text)  # type: ignore[arg-type]


def test_material_is_in_no_row_but_wrapped() -> None:
    assert {column.name for column in key_table.columns} == {"name", "state", "newest", "created_us", "rotated_us"}


async def test_keys_are_made_listed_and_changed_over_http(open_keys: OpenKeys) -> None:
    api = routes.application({KeyStore: await open_keys()}, None)
    for name in ("b", "a", "c"):
        made = await call(api, "POST", "/api/keys", json={"name": name})
        assert made.status == 201 and made.json()["state"] == "enabled"
    assert (await call(api, "POST", "/api/keys", json={"name": "a"})).status == 409
    assert (await call(api, "POST", "/api/keys", json={"name": "a b"})).status == 422
    page = (await call(api, "GET", "/api/keys?limit=2")).json()
    rest = (await call(api, "GET", f"/api/keys?limit=2&cursor={page['next']}")).json()
    assert [one["name"] for one in page["items"] + rest["items"]] == ["a", "b", "c"] and rest["next"] is None
    assert (await call(api, "POST", "/api/keys/a/rotate")).json()["versions"] == 2
    assert (await call(api, "POST", "/api/keys/a/disable")).json()["state"] == "disabled"
    assert (await call(api, "GET", "/api/keys/a")).json()["state"] == "disabled"
    assert (await call(api, "POST", "/api/keys/a/enable")).json()["state"] == "enabled"
    assert (await call(api, "GET", "/api/keys/x")).status == 404
