"""`/api/ids` as its callers meet it: what it answers, and what it makes of everything it was not made for."""

from itertools import pairwise
from typing import Any

import pytest

from mainspring.core.accounts.caller import Caller
from mainspring.core.clock import Clock
from mainspring.primitives.ids import LAYOUTS, Ids, parse
from mainspring.primitives.ids.http import KINDS, routes
from tests.asgi import Called, call

from .conftest import MakeIds, WatchedClock

App = Any


@pytest.fixture
async def ids(make_ids: MakeIds) -> Ids:
    return await make_ids(holder="alpha/1")


@pytest.fixture
def app(ids: Ids, clock: WatchedClock) -> App:
    return routes.application({Ids: ids, Clock: clock}, None)


def problem(answer: Called, status: int, kind: str) -> dict[str, Any]:
    assert answer.headers["content-type"].startswith("application/problem+json"), answer.text
    body: dict[str, Any] = answer.json()
    assert (answer.status, body["type"], body["status"]) == (status, f"/problems/{kind}", status), body
    return body


async def test_every_kind_is_minted_as_text_and_read_back(app: App) -> None:
    for kind in KINDS:
        answer = await call(app, "POST", "/api/ids", json={"kind": kind, "count": 50, "prefix": "order"})
        texts = answer.json()["ids"]
        assert (answer.status, len(set(texts))) == (200, 50), kind
        assert all(isinstance(text, str) for text in texts), kind
        if kind not in ("ksuid", "nanoid"):
            values = [parse(text, LAYOUTS.get(kind, LAYOUTS["mainspring"])).value for text in texts]
            assert values == sorted(values), kind
        query = f"?layout={kind}" if kind in LAYOUTS else ""
        one = (await call(app, "GET", f"/api/ids/{texts[0]}{query}")).json()
        assert one["kind"] == ("mainspring" if kind == "snowflake" else kind)
        assert one["text"] == texts[0]
        assert one["time"] == (None if kind == "nanoid" else "2026-01-01T00:00:00Z"), kind
        assert one["prefix"] == ("order" if kind == "typeid" else None)


async def test_as_many_as_allowed_are_minted_at_once(app: App) -> None:
    for kind in ("mainspring", "uuid7"):
        answer = await call(app, "POST", "/api/ids", json={"kind": kind, "count": 10_000})
        assert len(set(answer.json()["ids"])) == 10_000


async def test_an_id_is_shown_with_its_fields_its_minter_and_every_other_notation(app: App, ids: Ids) -> None:
    value = ids.next()
    one = (await call(app, "GET", f"/api/ids/{value}")).json()
    assert (one["kind"], one["value"], one["bits"]) == ("mainspring", str(value), 64)
    assert (one["worker"], one["sequence"], one["time_us"]) == (0, value & 4095, "1767225600000000")
    assert one["minted_by"] == {"holder": "alpha/1", "fence": 1}
    assert [(field["name"], field["bits"]) for field in one["fields"]] == [
        ("unused", 1),
        ("time", 41),
        ("worker", 10),
        ("sequence", 12),
    ]
    assert all(isinstance(field["value"], str) for field in one["fields"])
    for text in one["renderings"].values():
        if len(text) not in (13,) or text == one["renderings"]["crockford"]:
            again = await call(app, "GET", f"/api/ids/{text}")
            assert text in (one["renderings"]["base58"], one["renderings"]["base32hex"]) or (
                again.json()["value"] == str(value)
            )


async def test_a_block_is_one_run_per_millisecond(app: App) -> None:
    answer = (await call(app, "POST", "/api/ids/block", json={"count": 1_000_000})).json()
    assert answer["step"] == 1
    runs = [(int(run["first"]), run["count"]) for run in answer["runs"]]
    assert sum(count for _, count in runs) == 1_000_000
    assert all(first + count <= after for (first, count), (after, _) in pairwise(runs))
    assert len({first >> 22 for first, _ in runs}) == len(runs)
    assert len((await call(app, "POST", "/api/ids/block", json={})).json()["runs"]) == 1


async def test_workers_are_shown_with_holder_range_and_age(
    app: App, ids: Ids, make_ids: MakeIds, clock: WatchedClock
) -> None:
    second = await make_ids(holder="beta/2")
    await second.stop()
    await clock.beat(1, 0.4)
    shown = (await call(app, "GET", "/api/ids/workers")).json()
    assert (shown["ours"], shown["holder"], shown["worker_max"], shown["unready"]) == (0, "alpha/1", 1023, None)
    first, other = shown["workers"]
    assert (first["worker"], first["holder"], first["fence"], first["ours"]) == (0, "alpha/1", 1, True)
    assert (first["reserved_at"], first["age_ms"], first["free"]) == ("2026-01-01T00:00:03Z", 400, False)
    assert (other["holder"], other["free"], other["ours"]) == (None, True, False)


async def test_sequences_count_and_an_idempotency_key_counts_once(app: App) -> None:
    path = "/api/ids/sequences/invoice"
    assert (await call(app, "POST", path)).json() == {"name": "invoice", "first": "1", "count": 1}
    assert (await call(app, "POST", path, json={"count": 10})).json()["first"] == "2"
    keyed = {"idempotency-key": "once-and-for-all"}
    first = await call(app, "POST", path, json={"count": 3}, headers=keyed)
    again = await call(app, "POST", path, json={"count": 3}, headers=keyed)
    assert (first.status, again.status) == (200, 200)
    assert first.json() == again.json()
    other = await call(app, "POST", path, json={"count": 4}, headers=keyed)
    problem(other, 422, "core/idempotency-key-reused")


async def test_a_count_that_is_none_is_a_bad_count(app: App) -> None:
    for count in (0, -1, 10_001, "ten", "5", 1.5, None, True, [], {}, 10**30):
        answer = await call(app, "POST", "/api/ids", json={"kind": "ulid", "count": count})
        assert problem(answer, 422, "ids/bad-count")["maximum"] == 10_000, count


async def test_every_count_has_its_limit(app: App) -> None:
    for path in ("block", "sequences/invoice"):
        for count in (0, -5, 1_000_001, "x"):
            answer = await call(app, "POST", f"/api/ids/{path}", json={"count": count})
            assert problem(answer, 422, "ids/bad-count")["maximum"] == 1_000_000, (path, count)


async def test_an_unknown_kind_is_answered_with_the_list_of_kinds(app: App) -> None:
    for kind in ("guid", "", "x" * 10_000, "uuid4"):
        answer = await call(app, "POST", "/api/ids", json={"kind": kind})
        assert problem(answer, 422, "ids/unknown-kind")["kinds"] == list(KINDS)
    answer = await call(app, "GET", "/api/ids/123?layout=nonsense")
    assert problem(answer, 422, "ids/unknown-kind")["kinds"] == list(LAYOUTS)


NO_IDS = [
    "a" * 65,
    "a" * 5_000,
    "zzzzzzzzzzz",
    "lYGhA16ahyg",
    "18446744073709551616",
    "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
    "0ABCDEFGHJKMNX",
    "%00",
    "%20",
    "%C3%A4",
    "a%2Fb",
    "-",
    "user_8zzzzzzzzzzzzzzzzzzzzzzzzz",
    "..%2F..",
]


async def test_a_text_that_is_no_id_is_not_found(app: App) -> None:
    for text in NO_IDS:
        problem(await call(app, "GET", f"/api/ids/{text}"), 404, "ids/not-an-id")


async def test_a_prefix_that_typeid_does_not_know_is_refused(app: App) -> None:
    for prefix in ("_a", "a_", "A", "1", "a" * 64, "a" * 100_000, "ä"):
        answer = await call(app, "POST", "/api/ids", json={"kind": "typeid", "prefix": prefix})
        problem(answer, 422, "ids/bad-prefix")


async def test_a_sequence_name_that_is_none_is_refused(app: App) -> None:
    for name in ("UPPER", "a" * 101, "%20", "%C3%A4", "a%2Fb"):
        problem(await call(app, "POST", f"/api/ids/sequences/{name}", json={}), 422, "ids/bad-name")


async def test_a_sequence_that_is_gapless_is_not_counted_from_outside(app: App, ids: Ids, line: Any) -> None:
    await line.write(ids.gapless("dense").next)
    problem(await call(app, "POST", "/api/ids/sequences/dense", json={}), 409, "ids/sequence-kind")


async def test_a_layout_too_narrow_for_this_worker_is_refused(make_ids: MakeIds, clock: WatchedClock) -> None:
    high = await make_ids(worker=500)
    app = routes.application({Ids: high, Clock: clock}, None)
    problem(await call(app, "POST", "/api/ids", json={"kind": "js53"}), 409, "ids/layout-too-narrow")


async def test_a_minter_that_cannot_mint_says_when_to_come_back(app: App, clock: WatchedClock) -> None:
    for _ in range(4):
        assert (await call(app, "POST", "/api/ids/block", json={"count": 1_000_000})).status == 200
    answer = await call(app, "POST", "/api/ids/block", json={"count": 1_000_000})
    assert problem(answer, 429, "ids/too-fast")["retry_after_ms"] > 0
    assert answer.headers["retry-after"] == "1"
    clock.set_wall(clock.wall_ns() - 60_000_000_000)
    answer = await call(app, "POST", "/api/ids", json={"kind": "mainspring"})
    assert problem(answer, 503, "ids/clock-behind")["behind_ms"] > 5_000
    assert (await call(app, "POST", "/api/ids", json={"kind": "ulid"})).status == 200
    shown = (await call(app, "GET", "/api/ids/workers")).json()
    assert "behind" in shown["unready"] and shown["ahead_ms"] > 5_000


async def test_a_simulated_clock_set_back_shows_the_minter_holding_on(app: App) -> None:
    async def play(**body: int) -> Any:
        return (await call(app, "POST", "/api/ids/simulate", json=body)).json()

    near = await play(set_ms=-4_000)
    assert (near["distinct"], near["increasing"], near["refused"]) == (True, True, 0)
    assert near["minted"] == 40_000
    assert len(near["steps"]) <= 200
    back = next(step for step in near["steps"] if step["wall_ms"] < step["last_ms"])
    assert back["minted"] > 0
    far = await play(set_ms=-30_000)
    assert far["distinct"] and far["increasing"] and far["refused"] > 0
    assert {step["refused"] for step in far["steps"]} == {None, "ids/clock-behind"}
    forward = await play(set_ms=60_000, set_at_ms=2_500)
    assert forward["distinct"] and {step["refused"] for step in forward["steps"]} == {None, "ids/not-reserved"}
    flat_out = await play(set_ms=0, ids_per_ms=5_000, length_ms=20_000)
    assert flat_out["distinct"] and "ids/too-fast" in {step["refused"] for step in flat_out["steps"]}
    for wrong in ({"set_ms": -600_001}, {"set_ms": 0, "length_ms": 20_001}, {"set_ms": 0, "ids_per_ms": 0}, {}):
        assert (await call(app, "POST", "/api/ids/simulate", json=wrong)).status in (400, 422)


async def test_minting_needs_one_scope_and_reading_another(ids: Ids, clock: WatchedClock) -> None:
    async def authenticate(request: Any) -> Caller:
        scopes = frozenset((request.header("x-scopes") or "").split())
        return Caller(1, "someone", "token", scopes)

    app = routes.application({Ids: ids, Clock: clock}, authenticate)
    requests = [
        ("POST", "/api/ids", {"kind": "ulid"}, "ids:write"),
        ("POST", "/api/ids/block", {"count": 1}, "ids:write"),
        ("POST", "/api/ids/sequences/a", {}, "ids:write"),
        ("GET", "/api/ids/123", None, "ids:read"),
        ("GET", "/api/ids/workers", None, "ids:read"),
        ("POST", "/api/ids/simulate", {"set_ms": 0}, "ids:read"),
    ]
    for method, path, body, scope in requests:
        more = {} if body is None else {"json": body}
        other = "ids:read" if scope == "ids:write" else "ids:write"
        refused = await call(app, method, path, headers={"x-scopes": other}, **more)
        assert refused.status == 403, path
        assert (await call(app, method, path, headers={"x-scopes": scope}, **more)).status == 200, path
