"""The JSON API of the log: what is shown and changed, who may, and what bad input gets."""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from mainspring.core.accounts.caller import ANONYMOUS, Caller
from mainspring.core.clock import SystemClock
from mainspring.core.http import Request
from mainspring.core.ports import Database
from mainspring.storage.log import browsing
from mainspring.storage.log.browsing import Place
from mainspring.storage.log.errors import LogError
from mainspring.storage.log.http import PLACED, routes
from mainspring.storage.log.packing import New
from mainspring.storage.log.service import Log
from mainspring.storage.log.watching import Watchers
from tests.asgi import Called, Exchange, call, http_scope, started
from tests.fixtures_database import embedded_database

PATIENCE_S = 60
FIRST_PAGE = (None, None, None, None, "read_committed")
"""Query fields that a cursor belongs to, beside the topic's id: partition, offset, timestamp, where, isolation."""

SCOPES = {"reader": "log:read", "writer": "log:write", "admin": "log:admin", "all": "log:*"}


class House:
    """The API on a log of its own."""

    def __init__(self, app: Any, log: Log) -> None:
        self.app, self.log = app, log

    async def __call__(
        self, method: str, path: str, json: Any = msgspec.UNSET, token: str | None = "all", **more: Any
    ) -> Called:
        return await call(self.app, method, f"/api/log{path}", json=json, token=token, **more)

    async def topic(self, name: str = "orders", **more: Any) -> None:
        assert (await self("POST", "/topics", {"name": name, **more})).status == 201

    async def produce(self, *records: dict[str, Any], topic: str = "orders", **more: Any) -> Called:
        return await self("POST", f"/topics/{topic}/records", {"records": records}, **more)

    async def items(self, query: str = "", topic: str = "orders") -> list[dict[str, Any]]:
        answer = await self("GET", f"/topics/{topic}/records{query}")
        assert answer.status == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["items"]
        return found


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async def authenticate(request: Request) -> Caller:
        name = request.headers.get(b"authorization", b"").decode().removeprefix("Bearer ")
        return Caller(1, name, "token", frozenset({SCOPES[name]}), 1) if name in SCOPES else ANONYMOUS

    async with embedded_database(tmp_path) as database:
        log = Log(tmp_path / "log", SystemClock(), database, random=Random(1))
        await log.start()
        yield House(routes.application({Log: log, Database: database, Watchers: Watchers(2)}, authenticate), log)
        await log.stop()


async def test_a_topic_is_made_listed_changed_and_deleted(house: House) -> None:
    made = await house("POST", "/topics", {"name": "orders", "partitions": 2, "config": {"retention.ms": 1000}})
    assert made.status == 201 and [one["partition"] for one in made.json()["partitions"]] == [0, 1]
    later = (await house("GET", "/topics/orders?from=1")).json()
    assert later["partition_count"] == 2 and [one["partition"] for one in later["partitions"]] == [1]
    row = {
        "name": "orders",
        "internal": False,
        "partitions": 2,
        "records": 0,
        "size_bytes": 0,
        "cleanup_policy": "delete",
    }
    assert (await house("GET", "/topics")).json() == {"items": [row], "next": None}
    changed = await house(
        "PATCH", "/topics/orders", {"partitions": 3, "config": {"retention.ms": None, "cleanup.policy": "compact"}}
    )
    assert changed.status == 200 and len(changed.json()["partitions"]) == 3
    given = {one["name"]: one["value"] for one in changed.json()["settings"] if one["given"]}
    assert given == {"cleanup.policy": "compact"}
    assert (await house("DELETE", "/topics/orders")).status == 204
    assert (await house("GET", "/topics/orders")).status == 404


async def test_topics_come_in_pages_by_name_and_are_found_by_a_part_of_it(house: House) -> None:
    for name in ("c", "a", "b-1"):
        await house.topic(name)
    first = (await house("GET", "/topics?limit=2")).json()
    assert [one["name"] for one in first["items"]] == ["a", "b-1"]
    rest = (await house("GET", f"/topics?limit=2&cursor={first['next']}")).json()
    assert [one["name"] for one in rest["items"]] == ["c"] and rest["next"] is None
    assert [one["name"] for one in (await house("GET", "/topics?q=-")).json()["items"]] == ["b-1"]
    assert (await house("GET", f"/topics?q=x&cursor={first['next']}")).status == 400


async def test_a_change_that_is_refused_in_part_changes_nothing(house: House) -> None:
    await house.topic(partitions=2)
    for body in (
        {"partitions": 4, "config": {"retention.ms": "soon"}},
        {"partitions": 4, "config": {"no.such": 1}},
        {"partitions": 4, "config": {"no.such": None}},
        {"partitions": 1, "config": {"retention.ms": 5}},
        {"partitions": 10**9, "config": {"retention.ms": 5}},
        {"config": {"min.compaction.lag.ms": 9, "max.compaction.lag.ms": 3}},
    ):
        assert (await house("PATCH", "/topics/orders", body)).status == 422, body
    now = (await house("GET", "/topics/orders")).json()
    assert len(now["partitions"]) == 2 and not [one for one in now["settings"] if one["given"]]


async def test_records_are_text_json_or_bytes_and_come_back_as_they_went(house: House) -> None:
    await house.topic()
    produced = await house.produce(
        {"key": "k", "value": "text", "headers": [{"name": "trace", "value": "1"}], "timestamp_ms": 5},
        {"json": {"a": [1, 2]}},
        {"key_base64": "/w==", "value_base64": "gAE="},
        {"key": "gone"},
    )
    assert produced.status == 201
    assert produced.json() == {"positions": [{"partition": 0, "offset": offset} for offset in range(4)]}
    first, second, third, last = await house.items()
    headers = [{"name": "trace", "value": "1"}]
    assert first == {
        "partition": 0, "offset": 0, "timestamp_ms": 5, "key": "k", "value": "text", "headers": headers
    }  # fmt: skip
    assert second["key"] is None and msgspec.json.decode(second["value"]) == {"a": [1, 2]}
    assert (third["key"], third["key_base64"], third["value_base64"]) == (None, "/w==", "gAE=")
    assert last["value"] is None and "value_base64" not in last


async def test_records_are_browsed_by_offset_from_the_end_and_by_time(house: House) -> None:
    await house.topic()
    await house.produce(*({"value": str(n), "timestamp_ms": 1_000 * n} for n in range(10)))

    async def values(query: str) -> list[str]:
        return [one["value"] for one in await house.items(query)]

    assert await values("?offset=7") == ["7", "8", "9"]
    assert await values("?offset=-2") == ["8", "9"]
    assert await values("?offset=-20&limit=1") == ["0"]
    assert await values("?timestamp=7500") == ["8", "9"]
    assert await values("?timestamp=1970-01-01T00:00:08Z") == ["8", "9"]
    assert await values("?timestamp=10000000") == []
    assert (await house("GET", "/topics/orders/records?offset=11")).json()[
        "type"
    ] == "/problems/log/offset-out-of-range"


async def test_pages_go_through_all_partitions_and_each_record_is_in_one(house: House) -> None:
    await house.topic(partitions=3)
    await house.produce(*({"value": str(n), "partition": n % 3} for n in range(20)))
    seen: list[str] = []
    query = ""
    for _ in range(30):
        page = (await house("GET", f"/topics/orders/records?limit=3{query}")).json()
        seen += [one["value"] for one in page["items"]]
        if page["next"] is None:
            break
        query = f"&cursor={page['next']}"
    assert sorted(map(int, seen)) == list(range(20))
    forged = PLACED.seal(Place(-1, 0), (await house("GET", "/topics/orders")).json()["id"], *FIRST_PAGE)
    assert (await house("GET", f"/topics/orders/records?cursor={forged}")).status == 400
    assert [one["value"] for one in await house.items("?partition=1&offset=-2")] == ["16", "19"]


async def test_a_page_looks_into_so_many_partitions_and_the_next_goes_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.topic(partitions=5)
    await house.produce({"value": "far", "partition": 4})
    monkeypatch.setattr(browsing, "PARTITIONS_MAX", 2)
    pages = [(await house("GET", "/topics/orders/records")).json()]
    while pages[-1]["next"] is not None and len(pages) < 10:
        pages.append((await house("GET", f"/topics/orders/records?cursor={pages[-1]['next']}")).json())
    assert [[one["value"] for one in page["items"]] for page in pages] == [[], [], ["far"]]


async def test_a_filter_is_answered_by_the_server_in_bounded_steps(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.topic()
    monkeypatch.setattr(browsing, "SCANNED_RECORDS_MAX", 40)
    for start in (0, 50):
        await house.produce(*({"json": {"n": n, "user": {"name": f"u{n}"}}} for n in range(start, start + 50)))
    query = "where=n%20%3E%3D%2088%20and%20user.name%20~%20%229%22&limit=5"
    page = (await house("GET", f"/topics/orders/records?{query}")).json()
    assert page["items"] == [] and page["scanned"] == 40 and page["next"]
    found, steps = [], 1
    while page["next"]:
        page = (await house("GET", f"/topics/orders/records?{query}&cursor={page['next']}")).json()
        found += [msgspec.json.decode(one["value"])["n"] for one in page["items"]]
        steps += 1
        assert steps < 20
    assert found == [89, *range(90, 100)]


async def test_what_an_open_or_aborted_transaction_holds_is_not_shown(house: House) -> None:
    await house.topic()
    await house.produce({"value": "before"})
    producer = await house.log.transactions.producer("copier")
    async with producer.transaction() as transaction:
        await transaction.append("orders", 0, [(None, b"open", (), -1)])
        assert [one["value"] for one in await house.items()] == ["before"]
        assert [one["value"] for one in await house.items("?isolation=read_uncommitted")] == ["before", "open"]
        await transaction.abort()
    await house.produce({"value": "after"})
    assert [one["value"] for one in await house.items()] == ["before", "after"]


async def test_a_request_with_an_idempotency_key_is_carried_out_once(house: House) -> None:
    await house.topic(partitions=3)
    body = [{"value": str(n), "key": str(n)} for n in range(5)] + [{"value": "anywhere"}]
    key = {"idempotency-key": "order-17"}
    first = await house.produce(*body, headers=key)
    assert first.status == 201 and "idempotency-replayed" not in first.headers
    again = await house.produce(*body, headers=key)
    assert again.json() == first.json() and again.headers["idempotency-replayed"] == "true"
    assert len(await house.items()) == 6
    other = await house.produce({"value": "other"}, headers=key)
    assert other.status == 422 and other.json()["type"] == "/problems/core/idempotency-key-reused"
    assert (await house.produce(*body, headers={"idempotency-key": "order-18"})).status == 201
    assert len(await house.items()) == 12


async def test_a_request_of_several_batches_is_carried_out_once_too(house: House) -> None:
    await house.topic(config={"max.message.bytes": 2_000})
    body, key = [{"value": str(n) * 400} for n in range(10)], {"idempotency-key": "large"}
    first, again = [await house.produce(*body, headers=key) for _ in range(2)]
    assert first.status == again.status == 201 and first.json() == again.json()
    assert first.json()["positions"] == [{"partition": 0, "offset": n} for n in range(10)]
    assert [one["value"][:1] for one in await house.items()] == [str(n) for n in range(10)]
    refused = await house.produce(*({"value": "x" * 1_500} for _ in range(6)), headers={"idempotency-key": "larger"})
    assert refused.status == 413 and len(await house.items()) == 10


async def test_a_key_whose_request_was_cut_off_after_its_plan_is_carried_out_by_the_next_try(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.topic(partitions=4)
    body, key = [{"value": "a"}, {"value": "b", "key": "k"}], {"idempotency-key": "cut"}
    engine = house.log.engine

    def gone(topic: str, index: int) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as cut:
        cut.setattr(engine, "partition", gone)
        assert (await house.produce(*body, headers=key)).status == 500
    assert await house.items() == []
    done = await house.produce(*body, headers=key)
    assert done.status == 201 and "idempotency-replayed" not in done.headers
    assert (await house.produce(*body, headers=key)).json() == done.json()
    assert len(await house.items()) == 2


async def test_a_key_is_known_after_a_restart_by_the_log_and_by_the_database(tmp_path: Path) -> None:
    body, key = {"records": [{"value": "a"}, {"value": "b", "key": "k"}]}, {"idempotency-key": "k-1"}
    answers = []
    for _ in range(3):
        async with embedded_database(tmp_path) as database:
            log = Log(tmp_path / "log", SystemClock(), database)
            await log.start()
            if "orders" not in log.engine.topics:
                await log.create_topic("orders", 3)
            app = routes.application({Log: log, Database: database, Watchers: Watchers()}, None)
            answers.append(await call(app, "POST", "/api/log/topics/orders/records", json=body, headers=key))
            assert sum(one.high_watermark for one in log.engine.topics["orders"].partitions) == 2
            await log.stop()
    assert [one.json() for one in answers] == [answers[0].json()] * 3
    assert [one.headers.get("idempotency-replayed") for one in answers] == [None, "true", "true"]


@pytest.mark.parametrize(
    ("record", "status"),
    [
        ({"value": "a", "value_base64": "YQ=="}, 422),
        ({"value": "a", "json": 1}, 422),
        ({"value_base64": "not base64"}, 422),
        ({"key_base64": "%"}, 422),
        ({"value": "a", "partition": 7}, 404),
        ({"value": "a", "partition": -1}, 422),
        ({"value": "a", "timestamp_ms": 2**62}, 422),
        ({"value": "a", "timestamp_ms": -1}, 422),
        ({"value": "a", "colour": "red"}, 422),
        ({"value": 5}, 422),
        ({"value": "x" * 1_100_000}, 413),
    ],
)
async def test_one_bad_record_refuses_all_and_appends_none(house: House, record: Any, status: int) -> None:
    await house.topic(partitions=2)
    for headers in ({}, {"idempotency-key": "bad"}):
        answer = await house.produce({"value": "good", "partition": 0}, record, headers=headers)
        assert answer.status == status and answer.headers["content-type"] == "application/problem+json"
    assert await house.items() == []


async def test_a_compacted_topic_takes_no_record_without_a_key(house: House) -> None:
    await house.topic(partitions=2, config={"cleanup.policy": "compact"})
    refused = await house.produce({"key": "k", "value": "v", "partition": 0}, {"value": "v", "partition": 1})
    assert refused.status == 422 and refused.json()["type"] == "/problems/log/invalid-record"
    assert await house.items() == []


@pytest.mark.parametrize("name", [".", "..", "a b", "ä", "x" * 250, "a/b"])
async def test_a_name_that_is_none_is_refused(house: House, name: str) -> None:
    assert (await house("POST", "/topics", {"name": name})).json()["type"] == "/problems/log/invalid-topic"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/topics", {"name": "orders"}, 409),
        ("GET", "/topics/orders?from=-1", None, 422),
        ("POST", "/topics", {"name": "many", "partitions": 10**6}, 422),
        ("POST", "/topics", {"name": "none", "partitions": 0}, 422),
        ("POST", "/topics", {"name": "odd", "config": {"retention.ms": []}}, 422),
        ("POST", "/topics", {"name": "odd", "config": {"retention.ms": "x"}}, 422),
        ("PATCH", "/topics/none", {}, 404),
        ("DELETE", "/topics/none", None, 404),
        ("DELETE", "/topics/__consumer_offsets", None, 404),
        ("POST", "/topics/none/records", {"records": [{"value": "a"}]}, 404),
        ("POST", "/topics/orders/records", {"records": []}, 422),
        ("GET", "/topics/none/records", None, 404),
        ("GET", "/topics/orders/records?partition=5", None, 404),
        ("GET", "/topics/orders/records?limit=501", None, 422),
        ("GET", "/topics/orders/records?offset=1&timestamp=1", None, 422),
        ("GET", "/topics/orders/records?timestamp=yesterday", None, 422),
        ("GET", "/topics/orders/records?timestamp=2026-01-01T00:00:00", None, 422),
        ("GET", "/topics/orders/records?isolation=none", None, 422),
        ("GET", "/topics/orders/records?where=a%20%3D", None, 422),
        ("GET", "/topics/orders/records?cursor=AAAA", None, 400),
        ("GET", "/topics/orders/segments?partition=1", None, 404),
        ("GET", "/topics/none/segments", None, 404),
        ("GET", "/topics/orders/compaction?partition=1", None, 404),
        ("GET", "/groups/none", None, 404),
        ("POST", "/groups/g/offsets", {"topic": "none", "to": "earliest"}, 404),
        ("POST", "/groups/g/offsets", {"topic": "orders", "to": "earliest", "partitions": [1]}, 404),
        ("POST", "/groups/g/offsets", {"topic": "orders", "to": "sideways"}, 422),
        ("POST", "/groups/g/offsets", {"topic": "orders", "to": "timestamp"}, 422),
        ("POST", "/groups/g/offsets", {"topic": "orders", "to": "timestamp", "timestamp": "x"}, 422),
        ("POST", "/groups/g/offsets", {"topic": "orders", "to": "shift"}, 422),
        ("POST", "/groups/g/offsets", {"topic": "orders", "to": "latest", "by": 3}, 422),
        ("POST", f"/groups/{'g' * 32_768}/offsets", {"topic": "orders", "to": "latest"}, 422),
        ("POST", "/groups/a%00b/offsets", {"topic": "orders", "to": "latest"}, 422),
        ("POST", "/transactions/none/abort", None, 404),
    ],
)
async def test_bad_input_is_a_problem_and_changes_nothing(
    house: House, method: str, path: str, body: Any, status: int
) -> None:
    await house.topic()
    answer = await house(method, path, msgspec.UNSET if body is None else body)
    assert answer.status == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert [one["name"] for one in (await house("GET", "/topics")).json()["items"]] == ["orders"]
    assert (await house("GET", "/groups")).json()["items"] == []


async def test_looking_makes_no_topic_of_the_coordinators(house: House) -> None:
    assert (await house("GET", "/groups")).json() == {"items": [], "next": None}
    assert (await house("GET", "/transactions")).json() == {"items": [], "next": None}
    assert (await house("GET", "/topics?internal=true")).json()["items"] == []


async def test_the_logs_own_topics_are_read_and_not_changed(house: House) -> None:
    await house.topic()
    await house.log.groups.commit("g", {("orders", 0): 0})
    names = [one["name"] for one in (await house("GET", "/topics?internal=true")).json()["items"]]
    assert names == ["__consumer_offsets", "orders"]
    assert (await house.produce({"value": "x"}, topic="__consumer_offsets")).status == 422
    assert (await house("DELETE", "/topics/__consumer_offsets")).status == 422
    assert (await house("PATCH", "/topics/__consumer_offsets", {"partitions": 51})).status == 422
    assert (await house("GET", "/topics/__consumer_offsets/records")).status == 200


async def test_a_group_shows_its_members_and_lag_and_is_reset_once_it_is_empty(house: House) -> None:
    await house.topic(partitions=2)
    await house.produce(*({"value": str(n), "partition": n % 2, "timestamp_ms": n * 1000} for n in range(10)))
    consumer = house.log.consumer("billing", ["orders"], 2)
    async with asyncio.timeout(PATIENCE_S):
        await anext(consumer)
        await consumer.commit()
        shown = (await house("GET", "/groups/billing")).json()
        assert shown["state"] == "Stable" and shown["lag"] == 8 and len(shown["members"]) == 1
        assert shown["members"][0]["owns"] == [{"topic": "orders", "partitions": [0, 1]}]
        assert sorted(one["lag"] for one in shown["standing"]) == [3, 5]
        refused = await house("POST", "/groups/billing/offsets", {"topic": "orders", "to": "latest"})
        assert refused.status == 409 and refused.json()["type"] == "/problems/log/non-empty-group"
        await consumer.close()

    async def moved(**body: Any) -> list[int]:
        answer = await house("POST", "/groups/billing/offsets", {"topic": "orders", **body})
        assert answer.status == 200, answer.text
        standing = (await house("GET", "/groups/billing")).json()["standing"]
        assert [one["after"] for one in answer.json()] == [
            one["position"] for one in standing if one["partition"] in body.get("partitions", [0, 1])
        ]
        return [one["position"] for one in standing]

    assert await moved(to="latest") == [5, 5]
    assert await moved(to="shift", by=-2, partitions=[1]) == [5, 3]
    assert await moved(to="shift", by=-100) == [0, 0]
    assert await moved(to="timestamp", timestamp="5000") == [3, 2]
    assert await moved(to="earliest", partitions=[0]) == [0, 2]
    row = (await house("GET", "/groups")).json()["items"]
    assert [(one["name"], one["state"], one["topics"], one["lag"]) for one in row] == [
        ("billing", "Empty", ["orders"], 8)
    ]


async def test_a_position_in_the_database_is_shown_and_moved_with_the_groups_own(house: House) -> None:
    await house.topic()
    await house.produce(*({"value": str(n)} for n in range(6)))
    consumer = house.log.consumer("rollups", ["orders"], 4)
    async with asyncio.timeout(PATIENCE_S):
        await anext(consumer)
        assert await house.log.write(consumer.commit_in)
        await consumer.close()
        assert (await house("GET", "/groups/rollups")).json()["standing"][0]["position"] == 4
        reset = await house("POST", "/groups/rollups/offsets", {"topic": "orders", "to": "shift", "by": -3})
        assert reset.json() == [{"partition": 0, "before": 4, "after": 1}]
        again = house.log.consumer("rollups", ["orders"], 4)
        assert [record.offset for record in await anext(again)] == [1, 2, 3, 4]
        await again.close()


async def test_an_open_transaction_is_shown_and_aborted_and_its_producer_fenced(house: House) -> None:
    await house.topic()
    producer = await house.log.transactions.producer("copier/1")
    block = producer.transaction()
    transaction = await block.__aenter__()
    await transaction.append("orders", 0, [(None, b"open", (), -1)])
    (shown,) = (await house("GET", "/transactions?open=true")).json()["items"]
    assert shown["id"] == "copier/1" and shown["state"] == "Ongoing"
    assert shown["partitions"] == [{"topic": "orders", "partition": 0}]
    assert shown["producer_id"].isdigit()
    assert (await house("GET", "/topics/orders")).json()["partitions"][0]["open_transactions"] == 1
    assert (await house("POST", "/transactions/copier%2F1/abort")).status == 204
    with pytest.raises(LogError):
        await block.__aexit__(None, None, None)
    assert (await house("GET", "/transactions?open=true")).json()["items"] == []
    assert (await house("GET", "/transactions")).json()["items"][0]["state"] == "CompleteAbort"
    assert await house.items() == []
    assert (await house("POST", "/transactions/copier%2F1/abort")).status == 409
    assert (await house("POST", "/transactions/another/abort")).status == 404


async def test_segments_are_listed_and_compaction_is_foreseen_without_being_done(house: House) -> None:
    await house.topic(config={"cleanup.policy": "compact", "segment.bytes": 300})
    for n in range(12):
        await house.produce({"key": f"k{n % 3}", "value": "x" * 100})
    await house.produce({"key": "k0"})
    files = (await house("GET", "/topics/orders/segments")).json()
    assert len(files) > 3 and [one["active"] for one in files] == [False] * (len(files) - 1) + [True]
    assert files[0]["file"] == "0" * 20 + ".log" and files[0]["base_offset"] == 0
    whole = (await house("GET", "/topics/orders/compaction?active=true")).json()
    fates = [(one["offset"], one["fate"], one.get("by")) for one in whole["records"]]
    assert fates[9:] == [(9, "superseded", 12), (10, "kept", None), (11, "kept", None), (12, "tombstone", None)]
    assert whole["enabled"] and whole["complete"] and whole["keys"] == 3 and whole["tombstones"] == 1
    assert sum(one["records_kept"] for one in whole["segments"]) == 3
    closed = (await house("GET", "/topics/orders/compaction")).json()
    base = files[-1]["base_offset"]
    assert [one["fate"] for one in closed["records"] if one["offset"] >= base] == ["not compacted"] * (13 - base)
    assert [one["closed"] for one in closed["segments"]] == [True] * (len(files) - 1) + [False]
    assert len(await house.items()) == 13


async def test_the_cluster_is_one_node_with_what_it_holds(house: House) -> None:
    await house.topic(partitions=3)
    shown = (await house("GET", "/cluster")).json()
    assert shown["brokers"] == [{"id": 1, "controller": True}]
    assert (shown["topics"], shown["partitions"], shown["flush_policy"]) == (1, 3, "commit")
    assert len(shown["cluster_id"]) == 22


@pytest.mark.parametrize(
    ("method", "path", "body", "needs"),
    [
        ("GET", "/topics", None, "reader"),
        ("GET", "/topics/orders/records", None, "reader"),
        ("GET", "/groups", None, "reader"),
        ("GET", "/cluster", None, "reader"),
        ("POST", "/topics/orders/records", {"records": [{"value": "a"}]}, "writer"),
        ("POST", "/topics", {"name": "new"}, "admin"),
        ("PATCH", "/topics/orders", {}, "admin"),
        ("DELETE", "/topics/orders", None, "admin"),
        ("POST", "/groups/g/offsets", {"topic": "orders", "to": "latest"}, "admin"),
        ("POST", "/transactions/t/abort", None, "admin"),
    ],
)
async def test_each_operation_needs_its_scope(house: House, method: str, path: str, body: Any, needs: str) -> None:
    await house.topic()
    json = msgspec.UNSET if body is None else body
    assert (await house(method, path, json, token=None)).status == 401
    for name in {"reader", "writer", "admin"} - {needs}:
        assert (await house(method, path, json, token=name)).status == 403
    assert (await house(method, path, json, token=needs)).status in (200, 201, 204, 404)


async def test_records_are_watched_as_they_arrive_and_a_filter_holds(house: House) -> None:
    await house.topic(partitions=2)
    await house.produce({"json": {"n": 0}, "partition": 1})
    async with watching(house, "?where=n%20%3E%201") as socket:
        assert await socket.message() == {"records": [], "dropped": 0, "next": {"0": 0, "1": 1}}
        await house.produce(*({"json": {"n": n}, "partition": n % 2} for n in range(4)))
        seen: list[Any] = []
        while len(seen) < 2:
            seen += (await socket.message())["records"]
    assert sorted(one["value"] for one in seen) == ['{"n":2}', '{"n":3}']


async def test_a_watcher_gets_the_beginning_of_a_value_that_is_large(house: House) -> None:
    await house.topic()
    async with watching(house) as socket:
        await socket.message()
        for value in (b"x" + "ä".encode() * 400_000, b"\xff" * 70_000):
            await house.log.append("orders", value)
            (shown,) = (await socket.message())["records"]
            start = shown["value"].encode() if shown["value"] else b64decode(shown["value_base64"])
            assert value.startswith(start) and len(start) + shown["cut_bytes"] == len(value)
            assert 64 << 10 >= len(start) >= (64 << 10) - 3


async def test_a_watcher_that_is_too_slow_is_told_how_much_it_missed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainspring.storage.log.watching.BEHIND_MAX", 50)
    monkeypatch.setattr("mainspring.storage.log.watching.MESSAGE_RECORDS_MAX", 10)
    await house.topic()
    async with watching(house) as socket:
        await socket.message()
        await house.log.append_records("orders", [New(b"%d" % n) for n in range(500)])
        records, dropped = [], 0
        while not records or records[-1]["value"] != "499":
            message = await socket.message()
            records += message["records"]
            dropped += message["dropped"]
        assert dropped == 490 and len(records) == 10


async def test_watching_ends_with_the_topic(house: House) -> None:
    await house.topic()
    async with watching(house) as socket:
        await socket.message()
        await house("DELETE", "/topics/orders")
        await socket.ended.wait()
    assert socket.sent[-1]["type"] == "websocket.close" and socket.sent[-1]["code"] == 1008


async def test_only_so_many_watch_at_once_and_one_that_leaves_makes_room(house: House) -> None:
    await house.topic()
    async with watching(house) as first, watching(house) as second:
        await first.message()
        await second.message()
        async with watching(house) as third:
            await third.ended.wait()
            assert third.sent[-1] == {"type": "websocket.close", "code": 1013, "reason": "too many are watching"}
    async with watching(house) as fourth:
        assert (await fourth.message())["records"] == []


@pytest.mark.parametrize(
    ("path", "status"),
    [("/topics/none/tail", 404), ("/topics/orders/tail?where=%3D", 422), ("/topics/orders/tail?partition=1", 404)],
)
async def test_what_cannot_be_watched_is_refused_before_the_socket_opens(house: House, path: str, status: int) -> None:
    await house.topic()
    scope = http_scope("GET", f"/api/log{path}", {"authorization": "Bearer all"}, type="websocket")
    socket = Socket(scope)
    async with asyncio.timeout(PATIENCE_S), started(house.app, socket):
        await socket.ended.wait()
    assert socket.sent[0]["status"] == status


class Socket(Exchange):
    """A watcher's end of a WebSocket."""

    def __init__(self, scope: dict[str, Any]) -> None:
        super().__init__({**scope, "subprotocols": [], "extensions": {"websocket.http.response": {}}}, [])
        self._pieces = [{"type": "websocket.connect"}]
        self.ended = asyncio.Event()
        self._read = 0

    async def send(self, message: dict[str, Any]) -> None:
        await super().send(message)
        if message["type"] in ("websocket.close", "websocket.http.response.body"):
            self.ended.set()

    async def message(self) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                texts = [one["text"] for one in self.sent if one["type"] == "websocket.send"]
                if len(texts) > self._read:
                    self._read += 1
                    return msgspec.json.decode(texts[self._read - 1])
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def watching(house: House, query: str = "") -> AsyncIterator[Socket]:
    scope = http_scope("GET", f"/api/log/topics/orders/tail{query}", {"authorization": "Bearer all"}, type="websocket")
    socket = Socket(scope)
    async with asyncio.timeout(PATIENCE_S), started(house.app, socket):
        yield socket
