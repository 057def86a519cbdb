"""Typed routes: what reaches the function is what its types say, and everything else is refused with its place."""

import logging
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.accounts.caller import ANONYMOUS, Caller
from mainspring.core.clock import VirtualClock
from mainspring.core.database.errors import Duplicate, Violation
from mainspring.core.http import Channel, Form, Request, Response, Routes, Stream
from mainspring.core.problems import Conflict, Unauthenticated
from tests.asgi import Called, call, http_scope


class Rule(msgspec.Struct, forbid_unknown_fields=True):
    kind: Literal["device", "language"]
    value: Annotated[str, msgspec.Meta(min_length=1)]


class NewLink(msgspec.Struct):
    url: str
    tags: list[str] = []
    rules: list[Rule] = []
    meta: dict[str, int] = {}
    by_code: dict[Annotated[str, msgspec.Meta(max_length=3)], int] = {}
    extra: Any = None


class Search(msgspec.Struct):
    term: str | None = None
    tag: list[str] = []
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20
    archived: bool = False


class Links:
    """A service that says what it was called with."""

    async def echo(self, *given: Any) -> list[Any]:
        return list(given)


class Missing:
    """A service that nobody gives."""


routes = Routes("links")


@routes.get("/links/{id}")
async def show(id: int, links: Links) -> list[Any]:
    return await links.echo(id)


@routes.get("/tags/{tag}/on/{day}")
async def tagged(day: str, tag: str) -> list[str]:
    return [tag, day]


@routes.get("/links")
async def search(query: Search) -> Search:
    return query


@routes.post("/links", status=201)
async def create(body: NewLink, links: Links) -> NewLink:
    return body


@routes.patch("/links/{id}")
async def change(id: int, body: dict[str, str] | None) -> dict[str, str] | None:
    return body


@routes.delete("/links/{id}")
async def remove(id: int) -> None: ...


@routes.put("/links/{id}/raw", public=True)
async def put_raw(id: int, body: bytes, request: Request) -> Response:
    return Response(200, body[::-1], "text/plain", [(b"x-kind", (request.header("content-type") or "").encode())])


@routes.post("/upload", public=True)
async def upload(body: Form) -> list[str]:
    return [name for name, _ in body.fields]


@routes.get("/export", produces="text/csv")
async def export() -> Stream:
    async def rows() -> AsyncIterator[bytes]:
        yield b"a,b\n"
        yield b"1,2\n"

    return Stream(rows(), "text/csv")


@routes.get("/me", public=True)
async def me(caller: Caller, missing: Missing | None) -> list[Any]:
    return [caller.name, missing]


@routes.post("/taken", scope="links:admin")
async def taken() -> None:
    raise Conflict("taken already", code="abc")


@routes.get("/broken", public=True)
async def broken() -> None:
    raise OSError("/etc/secret")


@routes.get("/refused", public=True)
async def refused(query: Search) -> None:
    raise Duplicate("secret") if query.term == "key" else Violation("secret")


@routes.get("/etag", etag=True)
async def versioned() -> dict[str, int]:
    return {"version": 1}


services = {Links: Links()}
app = routes.application(services, None)


async def test_path_values_are_converted_and_passed_by_name() -> None:
    assert (await call(app, "GET", "/api/links/links/42")).json() == [42]
    assert (await call(app, "GET", "/api/links/tags/a%2Fb/on/monday")).json() == ["a/b", "monday"]


async def test_a_query_has_lists_defaults_and_numbers() -> None:
    answer = await call(app, "GET", "/api/links/links?tag=a&tag=b&limit=5&archived=true&term=x+y&unknown=1")
    assert answer.json() == {"term": "x y", "tag": ["a", "b"], "limit": 5, "archived": True}
    assert (await call(app, "GET", "/api/links/links")).json()["limit"] == 20


async def test_a_body_is_decoded_into_its_type() -> None:
    answer = await call(app, "POST", "/api/links/links", json={"url": "u", "meta": {"a": 1}})
    assert (answer.status, answer.json()["meta"]) == (201, {"a": 1})
    assert answer.headers["content-type"] == "application/json"


async def test_an_optional_body_may_be_absent_and_an_empty_answer_has_no_body() -> None:
    assert (await call(app, "PATCH", "/api/links/links/1")).json() is None
    assert (await call(app, "PATCH", "/api/links/links/1", json={"a": "b"})).json() == {"a": "b"}
    answer = await call(app, "DELETE", "/api/links/links/1")
    assert (answer.status, answer.body) == (204, b"")


async def test_bytes_forms_and_streams_pass_as_they_are() -> None:
    answer = await call(app, "PUT", "/api/links/links/1/raw", body=b"abc", headers={"content-type": "image/png"})
    assert (answer.body, answer.headers["x-kind"]) == (b"cba", "image/png")
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert (await call(app, "POST", "/api/links/upload", body=b"a=1&b=2", headers=form)).json() == ["a", "b"]
    answer = await call(app, "GET", "/api/links/export")
    assert (answer.body, answer.headers["content-type"]) == (b"a,b\n1,2\n", "text/csv")


def assert_problem(answer: Called, status: int, type: str, pointer: str | None = None) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status, problem["status"], problem["type"]) == (status, status, f"/problems/core/{type}"), problem
    assert problem.get("pointer") == pointer
    assert problem["title"] and problem["detail"]


@pytest.mark.parametrize(
    ("target", "pointer"),
    [
        ("links/x", "/path/id"),
        ("links/1.5", "/path/id"),
        ("links/9223372036854775808", "/path/id"),
        ("links?limit=0", "/query/limit"),
        ("links?limit=many", "/query/limit"),
        ("links?archived=perhaps", "/query/archived"),
    ],
)
async def test_a_value_of_path_or_query_that_does_not_fit_is_named(target: str, pointer: str) -> None:
    assert_problem(await call(app, "GET", f"/api/links/{target}"), 422, "invalid", pointer)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/body/url"),
        ([], "/body"),
        ({"url": 1}, "/body/url"),
        ({"url": "u", "tags": ["a", 2]}, "/body/tags/1"),
        ({"url": "u", "rules": [{"kind": "planet", "value": "x"}]}, "/body/rules/0/kind"),
        ({"url": "u", "rules": [{"kind": "device", "value": ""}]}, "/body/rules/0/value"),
        ({"url": "u", "rules": [{"kind": "device", "value": "x", "a/b~c": 1}]}, "/body/rules/0/a~1b~0c"),
        ({"url": "u", "meta": {"a": "x"}}, "/body/meta/*"),
        ({"url": "u", "by_code": {"toolong": 1}}, "/body/by_code"),
    ],
)
async def test_a_field_of_the_body_that_does_not_fit_is_named(body: Any, pointer: str) -> None:
    assert_problem(await call(app, "POST", "/api/links/links", json=body), 422, "invalid", pointer)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"url": "\xff"}',
        b'{"url": "\\ud800"}',
        b'{"url": "u"} trailing',
        b'{"url": "u", "extra": ' + b"[" * 100_000,
        b'{"url": "u", "extra": ' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"url": "u", "extra": ' + b'{"a":' * 65 + b"1" + b"}" * 65 + b"}",
        b'{"url": "u", "unknown": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[" * 500_000,
    ],
)
async def test_a_body_that_is_no_json_or_nested_too_deeply_is_malformed(body: bytes) -> None:
    json = {"content-type": "application/json"}
    assert_problem(await call(app, "POST", "/api/links/links", body=body, headers=json), 400, "malformed", "/body")


async def test_nesting_is_counted_outside_of_strings_only() -> None:
    for extra in ("[" * 500, '"]' * 300, [[{}] * 500] * 3, "\\" * 99 + "[" * 99):
        answer = await call(app, "POST", "/api/links/links", json={"url": "u", "extra": extra})
        assert (answer.status, answer.json()["extra"]) == (201, extra)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=30,
    )
)
async def test_any_json_comes_through_an_open_type_unchanged(value: Any) -> None:
    answer = await call(app, "POST", "/api/links/links", json={"url": "u", "extra": value})
    assert (answer.status, answer.json()["extra"]) == (201, value)


@settings(deadline=None)
@given(st.binary(max_size=60))
async def test_no_body_causes_a_fault(body: bytes) -> None:
    answer = await call(app, "POST", "/api/links/links", body=body, headers={"content-type": "application/json"})
    assert answer.status in (201, 400, 422)


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 201),
        ("application/json; charset=utf-8", 201),
        ("Application/JSON ; charset=utf8", 201),
        ("application/merge-patch+json", 201),
        ("text/plain", 415),
        ("application/jsonp", 415),
        ("application/x-www-form-urlencoded", 415),
        (None, 415),
    ],
)
async def test_json_must_be_called_json(content_type: str | None, status: int) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    answer = await call(app, "POST", "/api/links/links", body=b'{"url":"u"}', headers=headers)
    assert answer.status == status


async def test_a_body_beyond_the_route_s_limit_is_refused() -> None:
    small = Routes("small")

    @small.post("/", body_bytes_max=10)
    async def take(body: dict[str, int]) -> None: ...

    small_app = small.application({}, None)
    json = {"content-type": "application/json"}
    assert_problem(await call(small_app, "POST", "/api/small/", body=b" " * 11, headers=json), 413, "too-large")
    for pieces in ([b" " * 11], [b" " * 6, b" " * 6]):
        assert_problem(await call(small_app, "POST", "/api/small/", body=pieces, headers=json), 413, "too-large")


async def test_paths_and_methods_that_are_not_there_are_told_apart() -> None:
    for target in ("/api/links", "/api/links/", "/api/links/Links", "/api/other/links", "/", "/api/links/links/1/"):
        assert_problem(await call(app, "GET", target), 404, "not-found")
    for method in ("DELETE", "TRACE", "QUERY", "get"):
        answer = await call(app, method, "/api/links/links")
        assert_problem(answer, 405, "method-not-allowed")
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    answer = await call(app, "OPTIONS", "/api/links/links/1")
    assert (answer.status, answer.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, PATCH")
    head = await call(app, "HEAD", "/api/links/links/42")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "4")


CALLERS = {
    "reader": Caller(1, "ada", "token", frozenset({"links:read"})),
    "writer": Caller(2, "bob", "token", frozenset({"links:write"})),
    "owner": Caller(3, "eve", "token", frozenset({"links:*"})),
    "all": Caller(None, "one-click", "one_click", frozenset({"*"})),
    "other": Caller(4, "dan", "token", frozenset({"ids:*"})),
}


async def authenticate(request: Request) -> Caller:
    token = (request.header("authorization") or "").removeprefix("Bearer ")
    if not token:
        return ANONYMOUS
    if token not in CALLERS:
        raise Unauthenticated("unknown token")
    return CALLERS[token]


guarded = routes.application(services, authenticate)


@pytest.mark.parametrize(
    ("method", "target", "statuses"),
    [
        (
            "GET",
            "links/1",
            {None: 401, "bad": 401, "reader": 200, "writer": 403, "owner": 200, "all": 200, "other": 403},
        ),
        (
            "DELETE",
            "links/1",
            {None: 401, "bad": 401, "reader": 403, "writer": 204, "owner": 204, "all": 204, "other": 403},
        ),
        ("POST", "taken", {None: 401, "reader": 403, "writer": 403, "owner": 409, "all": 409}),
        ("GET", "me", {None: 200, "reader": 200, "other": 200, "bad": 401}),
        ("PUT", "links/1/raw", {None: 200, "other": 200, "bad": 200}),
    ],
)
async def test_reading_writing_and_named_scopes_are_needed_unless_public(
    method: str, target: str, statuses: dict[str | None, int]
) -> None:
    for token, status in statuses.items():
        answer = await call(guarded, method, f"/api/links/{target}", token=token)
        assert answer.status == status, (token, answer.body)
        if status == 401:
            assert answer.headers["www-authenticate"] == 'Bearer realm="mainspring"'
        if status == 403:
            assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


async def test_who_may_not_call_learns_nothing_of_what_else_is_wrong() -> None:
    answer = await call(guarded, "POST", "/api/links/links", body=b"{", token="reader")
    assert answer.status == 403


async def test_the_caller_and_services_that_may_be_missing_are_passed() -> None:
    assert (await call(guarded, "GET", "/api/links/me", token="reader")).json() == ["ada", None]
    assert (await call(guarded, "GET", "/api/links/me")).json() == ["anonymous", None]


async def test_problems_are_answered_with_their_members_and_faults_without_their_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = await call(app, "POST", "/api/links/taken")
    assert_problem(answer, 409, "conflict")
    assert answer.json()["code"] == "abc"
    with caplog.at_level(logging.ERROR):
        answer = await call(app, "GET", "/api/links/broken")
    assert answer.status == 500 and answer.json()["type"] == "/problems/internal"
    assert b"secret" not in answer.body and "secret" in caplog.text


async def test_what_only_the_database_refused_is_still_the_caller_s(caplog: pytest.LogCaptureFixture) -> None:
    answer = await call(app, "GET", "/api/links/refused?term=text")
    assert_problem(answer, 422, "invalid")
    assert_problem(await call(app, "GET", "/api/links/refused?term=key"), 409, "conflict")
    assert b"secret" not in answer.body and "secret" in caplog.text


async def test_an_etag_spares_who_has_it_already() -> None:
    first = await call(app, "GET", "/api/links/etag")
    assert first.json() == {"version": 1}
    again = await call(app, "GET", "/api/links/etag", headers={"if-none-match": first.headers["etag"]})
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", first.headers["etag"])


def test_needs_names_every_service_and_a_missing_one_is_told_when_binding() -> None:
    assert routes.needs() == {Links, Missing}
    with pytest.raises(LookupError, match=r"links\.show needs Links"):
        routes.application({}, None)


def test_functions_that_cannot_be_bound_are_refused_where_they_are_written() -> None:
    bad = Routes("bad")

    async def untyped(x) -> None: ...  # type: ignore[no-untyped-def]

    async def no_name() -> None: ...

    async def with_body(body: bytes) -> None: ...

    async def no_answer(): ...  # type: ignore[no-untyped-def]

    async def loose_query(query: dict) -> None: ...  # type: ignore[type-arg]

    for method, path, function, options, text in (
        ("GET", "/a", untyped, {}, "has no type"),
        ("GET", "/a/{id}", no_name, {}, "the path names id"),
        ("GET", "/a", with_body, {}, "a GET has no body"),
        ("POST", "/a", no_name, {"idempotent": True}, "go together"),
        ("GET", "/a", no_answer, {}, "does not say what it returns"),
        ("GET", "/a", loose_query, {}, "the query is a Struct"),
        ("WEBSOCKET", "/a", no_name, {}, "go together"),
    ):
        with pytest.raises(TypeError, match=text):
            bad.operation(method, path, **options)(function)  # type: ignore[arg-type]


class Recorder:
    """A family of metrics and all its children at once, remembering what it was told."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def histogram(self, name: str, help: str, labels: tuple[str, ...]) -> "Recorder":
        return self

    counter = histogram

    def labels(self, *values: str) -> "Recorder":
        child = Recorder()
        child.seen, child.values = self.seen, values  # type: ignore[attr-defined]
        return child

    def observe(self, seconds: float) -> None:
        self.seen.append((*self.values, seconds))  # type: ignore[attr-defined]

    @property
    def value(self) -> float:
        return 0.0

    @value.setter
    def value(self, value: float) -> None:
        self.seen.append(self.values)  # type: ignore[attr-defined]


async def test_latency_and_status_are_counted_by_template() -> None:
    metrics, clock = Recorder(), VirtualClock()
    slow = Routes("slow")

    @slow.get("/wait/{seconds}")
    async def wait(seconds: int) -> None:
        await clock.advance(seconds)

    slow_app = slow.application({}, None, metrics=metrics, clock=clock)
    await call(slow_app, "GET", "/api/slow/wait/3")
    await call(slow_app, "GET", "/api/slow/nowhere")
    assert metrics.seen == [
        ("slow", "GET", "/wait/{seconds}", 3.0),
        ("slow", "GET", "/wait/{seconds}", "204"),
        ("slow", "", "", 0.0),
        ("slow", "", "", "404"),
    ]


live = Routes("live")


@live.websocket("/rooms/{room}")
async def room(room: int, channel: Channel, caller: Caller) -> None:
    await channel.receive()
    await channel.send({"type": "websocket.accept"})
    await channel.send({"type": "websocket.send", "text": f"{caller.name} in {room}"})


async def handshake(target: str, token: str | None) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = {"authorization": f"Bearer {token}"} if token else {}
    scope = http_scope("GET", target, headers, type="websocket")
    del scope["method"]
    await live.application({}, authenticate)(scope, receive, send)
    return sent


async def test_a_websocket_is_bound_like_any_route_and_refused_before_it_is_accepted() -> None:
    accepted = await handshake("/api/live/rooms/7", "all")
    assert accepted[1] == {"type": "websocket.send", "text": "one-click in 7"}
    for target, token, status in (
        ("/api/live/rooms/7", None, 401),
        ("/api/live/rooms/7", "reader", 403),
        ("/api/live/rooms/x", "all", 422),
        ("/api/live/nowhere", "all", 404),
    ):
        refused = await handshake(target, token)
        assert [message.get("status") for message in refused] == [status, None]
    answer = await call(live.application({}, None), "GET", "/api/live/rooms/7")
    assert (answer.status, answer.headers["upgrade"]) == (426, "websocket")
