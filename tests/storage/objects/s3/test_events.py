"""Events of a bucket over a WebSocket: in order, all of them, and only for who may list the bucket."""

import asyncio
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from mainspring.core.accounts.model import OPERATOR
from mainspring.storage.objects import Objects
from mainspring.storage.objects.s3.door import Door
from mainspring.storage.objects.watching import MESSAGE_EVENTS_MAX, Watchers
from tests.storage.objects.s3.running import Running

PATIENCE_S = 60


async def watching(running: Running, query: str, token: str = "") -> ClientConnection:
    address = running.mainspring.address.replace("http://", "ws://")
    headers = {"authorization": f"Bearer {token or running.mainspring.one_click}"}
    return await connect(f"{address}api/objects/events?{query}", additional_headers=headers, proxy=None)


async def heard(socket: ClientConnection) -> dict[str, Any]:
    """The next message that is no ping."""
    while True:
        message: dict[str, Any] = msgspec.json.decode(await asyncio.wait_for(socket.recv(), PATIENCE_S))
        if message.get("type") != "ping":
            return message


async def taken(socket: ClientConnection, count: int) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    while len(events) < count:
        events += (await heard(socket))["events"]
    return events


async def test_a_watcher_hears_each_event_once_in_order_and_goes_on_where_it_left(running: Running) -> None:
    objects = await running.mainspring.service(Objects)
    await objects.create_bucket("watched")
    await objects.put("watched", "before", b"")
    async with await watching(running, "bucket=watched&prefix=a/") as socket:
        began = await heard(socket)
        assert (began["events"], began["missed"]) == ([], False)
        made = await objects.put("watched", "a/1", b"hello")
        await objects.put("watched", "b/1", b"elsewhere")
        await objects.delete("watched", "a/1")
        created, removed = await taken(socket, 2)
    assert created == {
        "name": "ObjectCreated:Put",
        "key": "a/1",
        "version": created["version"],
        "size_bytes": 5,
        "etag": made.etag,
        "at_us": made.seq,
    }
    assert (removed["name"], removed["key"]) == ("ObjectRemoved:Delete", "a/1")
    count = 2 * MESSAGE_EVENTS_MAX + 7
    await asyncio.gather(*(objects.put("watched", f"a/{number:04}", b"") for number in range(count)))
    async with await watching(running, f"bucket=watched&prefix=a/&after={began['next']}") as socket:
        assert (await heard(socket))["next"] == began["next"]
        again = await taken(socket, count + 2)
    assert [one["name"] for one in again[:2]] == ["ObjectCreated:Put", "ObjectRemoved:Delete"]
    assert {one["key"] for one in again[2:]} == {f"a/{number:04}" for number in range(count)}
    assert len(again) == count + 2


async def test_only_who_may_list_a_bucket_may_watch_it_and_only_so_long(running: Running) -> None:
    objects, accounts = await running.mainspring.service(Objects), running.mainspring.accounts
    await objects.create_bucket("private", owner="nobody's")
    account = await accounts.create_service(OPERATOR, "watcher", ["objects:read"])
    token = (await accounts.create_token(OPERATOR, "t", ["objects:read"], account_id=account.id)).secret
    other = (await accounts.create_token(OPERATOR, "o", ["ids:read"])).secret
    for query, by, status in (
        ("bucket=private", token, 403),
        ("bucket=private", other, 403),
        ("bucket=none-such", token, 404),
        ("bucket=private&after=x", token, 422),
    ):
        with pytest.raises(InvalidStatus) as refused:
            await watching(running, query, by)
        assert refused.value.response.status_code == status
    policy = (
        b'{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:ListBucket", '
        b'"Resource": "arn:aws:s3:::private"}]}'
    )
    await objects.set_setting("private", "policy", policy)
    door = await running.mainspring.service(Door)
    door.buckets.forget("private")
    async with await watching(running, "bucket=private", token) as socket:
        await heard(socket)
        await objects.set_setting("private", "policy", None)
        door.buckets.forget("private")
        await objects.put("private", "secret", b"")
        with pytest.raises(ConnectionClosed) as closed:
            await heard(socket)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008


async def test_who_comes_when_too_many_watch_is_told_to_come_later(running: Running) -> None:
    objects = await running.mainspring.service(Objects)
    await objects.create_bucket("watched")
    watchers = await running.mainspring.service(Watchers)
    while watchers.enter():
        pass
    async with await watching(running, "bucket=watched") as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await heard(socket)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1013
    watchers.leave()
    async with await watching(running, "bucket=watched") as socket:
        await heard(socket)
