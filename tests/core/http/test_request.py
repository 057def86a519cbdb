"""Requests are read lazily, forgive nothing, and every answer leaves in one piece or in its own."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.http import Answer, Form, Request, Response, Router, Stream, asgi, problem_response
from mainspring.core.http.request import form_pairs
from mainspring.core.problems import Malformed, NotFound, Problem, TooLarge
from tests.asgi import Exchange, call, http_scope, started

PART = b'--X\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'


def request(method: str = "GET", target: str = "/", body: list[bytes] | None = None, **headers: str) -> Request:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    exchange = Exchange(http_scope(method, target, named), body or [b""])
    return Request(exchange.scope, exchange.receive)


def test_headers_are_joined_where_they_repeat_and_cookies_keep_the_first() -> None:
    scope = http_scope("GET", "/", [("accept", "a"), ("accept", "b"), ("cookie", "x=1; y=2"), ("cookie", "x=3; bad")])
    asked = Request(scope, Exchange(scope, []).receive)
    assert asked.header("accept") == "a, b"
    assert asked.cookies == {"x": "1", "y": "2"}
    assert asked.header("missing") is None
    assert asked.client == ("127.0.0.1", 50_000)


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), min_size=1, max_size=20))
def test_a_query_gives_back_the_fields_it_was_made_of(pairs: list[tuple[str, str]]) -> None:
    from urllib.parse import urlencode

    try:
        encoded = urlencode(pairs).encode()
    except UnicodeEncodeError:  # a lone surrogate cannot be written
        return
    assert form_pairs(encoded, "/query") == pairs


@pytest.mark.parametrize("query", [b"a=%ff", b"%c3=1", b"&".join([b"a=1"] * 101)])
def test_a_query_that_cannot_be_read_is_malformed(query: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        form_pairs(query, "/query")
    assert caught.value.more == {"pointer": "/query"}


async def test_a_body_arrives_whole_from_pieces_and_can_be_read_again() -> None:
    asked = request("POST", body=[b"one ", b"", b"two"])
    assert await asked.body() == b"one two"
    assert await asked.body() == b"one two"


async def test_a_body_is_refused_by_its_declared_length_at_its_first_piece() -> None:
    exchange = Exchange(http_scope("POST", "/", {"content-length": "2000000"}), [b"first"], complete=False)
    with pytest.raises(TooLarge):
        await Request(exchange.scope, exchange.receive).body()
    with pytest.raises(TooLarge):
        await anext(Request(exchange.scope, exchange.receive).stream())


async def test_a_body_is_complete_when_its_declared_length_has_come() -> None:
    for pieces in ([b"whole"], [b"wh", b"ole"]):
        exchange = Exchange(http_scope("POST", "/", {"content-length": "5"}), pieces, complete=False)
        assert await Request(exchange.scope, exchange.receive).body() == b"whole"
        exchange = Exchange(http_scope("POST", "/", {"content-length": "5"}), pieces, complete=False)
        assert [piece async for piece in Request(exchange.scope, exchange.receive).stream()] == pieces


@pytest.mark.parametrize("length", ["-1", "1x", "", "9" * 5000])
async def test_a_length_that_is_no_number_or_endless_is_a_problem_of_the_caller(length: str) -> None:
    with pytest.raises((Malformed, TooLarge)):
        await request("POST", body=[b"", b""], content_length=length).body()


async def test_a_body_without_a_length_is_refused_at_the_piece_that_passes_the_limit() -> None:
    asked = request("POST", body=[b"x" * 6, b"x" * 6, b"x" * 6])
    with pytest.raises(TooLarge):
        await asked.body(10)
    stream = request("POST", body=[b"x" * 6, b"x" * 6]).stream(10)
    assert await anext(stream) == b"x" * 6
    with pytest.raises(TooLarge):
        await anext(stream)


async def test_a_form_is_read_in_both_its_encodings() -> None:
    async def handler(asked: Request) -> Response:
        form = await asked.form()
        return Response.json(
            {"fields": form.fields, "files": [[f.name, f.filename, f.body.decode()] for f in form.files]}
        )

    app = asgi(handler)
    urlencoded = {"content-type": "application/x-www-form-urlencoded"}
    answer = await call(app, "POST", "/", body=b"url=https%3A%2F%2Fa.example&t=a+b&t=", headers=urlencoded)
    assert answer.json()["fields"] == [["url", "https://a.example"], ["t", "a b"], ["t", ""]]
    body = (
        b'--X\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
        b'--X\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n'
        b"Content-Type: text/plain\r\n\r\nfile\r\n--X--\r\n"
    )
    answer = await call(app, "POST", "/", body=body, headers={"content-type": "multipart/form-data; boundary=X"})
    assert answer.json() == {"fields": [["note", "hello"]], "files": [["f", "a.txt", "file"]]}


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("text/plain", b"a=1", 415),
        ("multipart/form-data", b"--X--", 400),
        ("multipart/form-data; boundary=X", b"--X\r\nContent-Disposition: form-data; name=a\r\n\r\ncut", 400),
        ("multipart/form-data; boundary=X", b"--X\r\nContent-Disposition: form-data; name=a\r\n\r\n\xff\r\n--X--", 400),
        ("multipart/form-data; boundary=X", b"--X\r\nno colon\r\n\r\n\r\n--X--", 400),
        (
            "multipart/form-data; boundary=X",
            b'--X\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 101 + b"--X--",
            413,
        ),
        ("application/x-www-form-urlencoded", b"a=%ff", 400),
    ],
)
async def test_a_form_that_cannot_be_read_is_a_problem_and_never_a_fault(
    content_type: str, body: bytes, status: int
) -> None:
    async def handler(asked: Request) -> Response:
        await asked.form()
        return Response()

    answer = await call(asgi(handler), "POST", "/", body=body, headers={"content-type": content_type})
    assert answer.status == status, answer.body


@settings(deadline=None)
@given(st.binary(max_size=200))
async def test_no_multipart_body_causes_a_fault(body: bytes) -> None:
    async def handler(asked: Request) -> Response:
        form = await asked.form()
        assert isinstance(form, Form)
        return Response()

    answer = await call(
        asgi(handler), "POST", "/", body=body, headers={"content-type": "multipart/form-data; boundary=X"}
    )
    assert answer.status in (200, 400, 413)


async def test_a_fault_says_nothing_and_a_problem_takes_the_form_that_the_dialect_chose(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(asked: Request) -> Response:
        if asked.path == "/fault":
            raise RuntimeError("the password is hunter2")
        raise NotFound("no such paste")

    def terse(problem: Problem) -> Response:
        return Response.json({"status": 1, "message": problem.detail}, status=200)

    answer = await call(asgi(handler, problem=terse), "GET", "/x")
    assert (answer.status, answer.json()) == (200, {"status": 1, "message": "no such paste"})
    answer = await call(asgi(handler), "GET", "/fault")
    assert answer.status == 500
    assert b"hunter2" not in answer.body
    assert "hunter2" in caplog.text


async def test_who_leaves_within_the_body_is_not_answered() -> None:
    async def handler(asked: Request) -> Response:
        await asked.body()
        return Response()

    exchange = Exchange(http_scope("POST", "/"), [b"half"], complete=False)
    async with started(asgi(handler), exchange) as task:
        exchange.hang_up()
        await asyncio.wait([task], timeout=30)
        assert task.done() and task.exception() is None
    assert exchange.sent == []


async def test_a_stream_leaves_piece_by_piece_and_is_closed_when_its_client_goes() -> None:
    closed = asyncio.Event()
    more = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await more.wait()
            yield b"second"
        finally:
            closed.set()

    async def handler(asked: Request) -> Answer:
        return Stream(pieces(), "text/event-stream")

    exchange = Exchange(http_scope("GET", "/"), [b""])
    async with started(asgi(handler), exchange) as task:
        assert await exchange.body_beyond(0) == b"first"
        task.cancel()  # what `core.serve` does when the client has gone
        async with asyncio.timeout(30):
            await closed.wait()
    more.set()
    answer = await call(asgi(handler), "GET", "/")
    assert answer.body == b"firstsecond"
    assert answer.headers["content-type"] == "text/event-stream"


async def test_the_head_of_a_stream_has_no_body_and_runs_none_of_it() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        raise AssertionError("not for a HEAD")
        yield b""

    async def handler(asked: Request) -> Answer:
        return Stream(pieces(), "text/csv")

    answer = await call(asgi(handler), "HEAD", "/")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"", "text/csv")


async def test_a_response_without_body_declares_none() -> None:
    async def handler(asked: Request) -> Response:
        return Response(int(asked.query["status"]), b"ignored")

    for status in (204, 304):
        answer = await call(asgi(handler), "GET", f"/?status={status}")
        assert answer.body == b"" and "content-length" not in answer.headers
    answer = await call(asgi(handler), "HEAD", "/?status=200")
    assert answer.body == b"" and answer.headers["content-length"] == "7"


async def test_a_router_names_path_values_and_methods() -> None:
    router = Router()

    async def show(asked: Request) -> Response:
        return Response.json(asked.path_values)

    async def create(asked: Request) -> Response:
        return Response(201)

    router.add("GET", "/tags/{tag}/visits", show)
    router.add("POST PUT", "/tags", create)
    app = router.application()
    assert (await call(app, "GET", "/tags/a%2Fb%C3%A9/visits")).json() == {"tag": "a/bé"}
    assert (await call(app, "PUT", "/tags")).status == 201
    assert (await call(app, "GET", "/tags/x/y")).status == 404
    assert (await call(app, "GET", "/tags/%ff/visits")).status == 400
    refused = await call(app, "DELETE", "/tags")
    assert (refused.status, refused.headers["allow"]) == (405, "OPTIONS, POST, PUT")
    assert (await call(app, "HEAD", "/tags/x/visits")).status == 200
    with pytest.raises(ValueError, match="two routes"):
        router.add("PUT", "/tags", create)


async def test_a_router_can_answer_what_no_route_matches() -> None:
    async def code(asked: Request) -> Response:
        return Response.redirect("https://example.org" + asked.path)

    answer = await call(Router(otherwise=code).application(), "GET", "/abc")
    assert (answer.status, answer.headers["location"]) == (302, "https://example.org/abc")


def test_an_unauthenticated_problem_names_the_way_in() -> None:
    from mainspring.core.problems import Unauthenticated

    assert dict(problem_response(Unauthenticated()).headers)[b"www-authenticate"] == b'Bearer realm="mainspring"'
    own = Unauthenticated(headers=(("www-authenticate", "ApiKey"),))
    assert [v for n, v in problem_response(own).headers if n == b"www-authenticate"] == [b"ApiKey"]
