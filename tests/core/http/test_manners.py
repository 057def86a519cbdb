"""What every answer has and every request must keep to, whatever the application behind it does."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.http import Answer, Request, Response, Router, Stream, asgi
from mainspring.core.http.conditional import answer as with_etag
from mainspring.core.http.manners import Manners, MannersSettings
from tests.asgi import Called, Exchange, call, http_scope, started

TEXT = b"to be or not to be, that is the question; " * 200


class House:
    """An application with one room for each manner."""

    def __init__(self) -> None:
        self.entered, self.cancelled = asyncio.Event(), asyncio.Event()
        router = Router()
        for name in (
            "json",
            "page",
            "own_policy",
            "text",
            "image",
            "packed",
            "untouched",
            "tagged",
            "stream",
            "fault",
            "id",
        ):
            router.add("GET", f"/{name}", getattr(self, name))
        router.add("POST", "/read", self.read)
        router.add("GET POST", "/hang", self.hang)
        self.app = router.application()

    async def json(self, request: Request) -> Answer:
        return Response.json({"a": 1})

    async def page(self, request: Request) -> Answer:
        return Response(200, b"<p>", "text/html; charset=utf-8")

    async def own_policy(self, request: Request) -> Answer:
        return Response(200, b"<p>", "text/html", [(b"content-security-policy", b"default-src 'none'")])

    async def text(self, request: Request) -> Answer:
        return Response(200, TEXT * int(request.query.get("times", "1")), "text/plain")

    async def image(self, request: Request) -> Answer:
        return Response(200, TEXT, "image/png")

    async def packed(self, request: Request) -> Answer:
        return Response(200, gzip.compress(TEXT * 9), "text/plain", [(b"content-encoding", b"gzip")])

    async def untouched(self, request: Request) -> Answer:
        return Response(200, TEXT, "text/plain", [(b"cache-control", b"no-transform")])

    async def tagged(self, request: Request) -> Answer:
        return with_etag(request, Response(200, TEXT, "text/plain"))

    async def stream(self, request: Request) -> Answer:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield TEXT

        return Stream(pieces(), "text/plain")

    async def fault(self, request: Request) -> Answer:
        raise RuntimeError("a secret")

    async def id(self, request: Request) -> Answer:
        return Response(200, request.id.encode(), "text/plain")

    async def read(self, request: Request) -> Answer:
        return Response(200, b"%d" % len(await request.body(1 << 30)), "text/plain")

    async def hang(self, request: Request) -> Answer:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        raise AssertionError


@pytest.fixture
def house() -> House:
    return House()


def polite(house: House, **settings: Any) -> Manners:
    return Manners(house.app, MannersSettings(**settings))


async def test_each_answer_has_an_id_of_its_own_or_the_sane_one_it_was_given(house: House) -> None:
    app = polite(house)
    made = {(await call(app, "GET", "/json")).headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3
    for given_id in ("abcdef-1.2_3", "A" * 64):
        answer = await call(app, "GET", "/id", headers={"x-request-id": given_id})
        assert answer.headers["x-request-id"] == answer.text == given_id
    for insane in ("short", "x" * 65, "has space", "semi;colon", "naïve-id"):
        answer = await call(app, "GET", "/id", headers={"x-request-id": insane})
        assert answer.headers["x-request-id"] == answer.text != insane


async def test_pages_are_guarded_and_types_are_never_guessed(house: House) -> None:
    app = polite(house)
    page = (await call(app, "GET", "/page")).headers
    assert "frame-ancestors 'none'" in page["content-security-policy"]
    assert (page["x-frame-options"], page["referrer-policy"]) == ("DENY", "same-origin")
    own = await call(app, "GET", "/own_policy")
    assert [value for name, value in own.all_headers if name == "content-security-policy"] == ["default-src 'none'"]
    json = (await call(app, "GET", "/json")).headers
    assert json["x-content-type-options"] == "nosniff" and "content-security-policy" not in json
    missing = (await call(app, "GET", "/nowhere")).headers
    assert missing["x-content-type-options"] == "nosniff" and missing["x-request-id"]


GZIP = {"accept-encoding": "br, gzip"}


async def test_long_text_is_compressed_for_who_accepts_it(house: House) -> None:
    app = polite(house)
    for times in (1, 20):  # on the loop, and in a thread
        packed = await call(app, "GET", f"/text?times={times}", headers=GZIP)
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.headers["content-length"] == str(len(packed.body))
        assert gzip.decompress(packed.body) == TEXT * times
        assert ("vary", "accept-encoding") in packed.all_headers
    for headers in (
        {},
        {"accept-encoding": "br"},
        {"accept-encoding": "gzip;q=0"},
        {"accept-encoding": "gzip; q=0.0, br"},
    ):
        plain = await call(app, "GET", "/text", headers=headers)
        assert plain.body == TEXT and "content-encoding" not in plain.headers
        assert ("vary", "accept-encoding") in plain.all_headers


@pytest.mark.parametrize("room", ["json", "image", "untouched", "stream"])
async def test_what_is_short_dense_streamed_or_forbidden_is_not_compressed(house: House, room: str) -> None:
    answer = await call(polite(house), "GET", f"/{room}", headers=GZIP)
    assert "content-encoding" not in answer.headers
    assert answer.body == {"json": b'{"a":1}', "stream": TEXT * 3}.get(room, TEXT)


async def test_what_is_compressed_already_stays_as_it_is(house: House) -> None:
    answer = await call(polite(house), "GET", "/packed", headers=GZIP)
    assert gzip.decompress(answer.body) == TEXT * 9


async def test_compressed_bytes_have_a_tag_of_their_own_that_is_known_again(house: House) -> None:
    app = polite(house)
    plain = (await call(app, "GET", "/tagged")).headers["etag"]
    packed = (await call(app, "GET", "/tagged", headers=GZIP)).headers["etag"]
    assert packed == plain[:-1] + '-gzip"'
    for tag in (plain, packed):
        assert (await call(app, "GET", "/tagged", headers={**GZIP, "if-none-match": tag})).status == 304


async def test_a_head_of_what_would_be_compressed_claims_no_length(house: House) -> None:
    app = polite(house)
    packed = await call(app, "HEAD", "/text", headers=GZIP)
    assert packed.body == b"" and "content-length" not in packed.headers
    plain = await call(app, "HEAD", "/text")
    assert plain.headers["content-length"] == str(len(TEXT))


async def test_only_configured_sites_may_read_answers(house: House) -> None:
    app = polite(house, origins=("https://app.example.org",))
    preflight = {"access-control-request-method": "PUT", "access-control-request-headers": "authorization"}
    allowed = await call(app, "GET", "/json", headers={"origin": "https://app.example.org"})
    assert allowed.headers["access-control-allow-origin"] == "https://app.example.org"
    assert "access-control-allow-credentials" not in allowed.headers
    assert allowed.headers["vary"] == "origin"
    asked = await call(app, "OPTIONS", "/json", headers={**preflight, "origin": "https://app.example.org"})
    assert asked.status == 204
    assert asked.headers["access-control-allow-methods"] == "PUT"
    assert asked.headers["access-control-allow-headers"] == "authorization"
    assert asked.headers["access-control-allow-origin"] == "https://app.example.org"
    for origin in ("https://evil.example", "https://app.example.org.evil.example", "null", "http://app.example.org"):
        refused = await call(app, "GET", "/json", headers={"origin": origin})
        assert "access-control-allow-origin" not in refused.headers
        asked = await call(app, "OPTIONS", "/json", headers={**preflight, "origin": origin})
        assert (
            "access-control-allow-origin" not in asked.headers and "access-control-allow-methods" not in asked.headers
        )
    none = await call(polite(house), "GET", "/json", headers={"origin": "https://app.example.org"})
    assert "access-control-allow-origin" not in none.headers and "vary" not in none.headers
    anybody = await call(polite(house, origins=("*",)), "GET", "/json", headers={"origin": "https://x.example"})
    assert anybody.headers["access-control-allow-origin"] == "https://x.example"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost", 200),
        ("LocalHost:1", 200),
        ("[::1]:8080", 200),
        ("[::1]", 200),
        ("mainspring.test:99", 200),
        ("evil.example", 421),
        ("evil.example:8080", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:8080", 421),
        ("", 421),
    ],
)
async def test_a_loopback_listener_answers_only_to_its_own_names(house: House, host: str, status: int) -> None:
    app = polite(house, hosts=("mainspring.test",))
    answer = await call(app, "GET", "/json", headers={"host": host})
    assert answer.status == status
    assert answer.headers["x-request-id"]


async def test_elsewhere_names_are_checked_only_where_some_are_configured(house: House) -> None:
    anywhere = Manners(house.app, loopback=False)
    assert (await call(anywhere, "GET", "/json", headers={"host": "any.example"})).status == 200
    named = Manners(house.app, MannersSettings(hosts=("a.example",)), loopback=False)
    assert (await call(named, "GET", "/json", headers={"host": "b.example"})).status == 421
    assert (await call(named, "GET", "/json", headers={"host": "a.example"})).status == 200


async def test_a_page_of_another_site_cannot_open_a_websocket(house: House) -> None:
    reached: list[str] = []

    async def sockets(scope: Any, receive: Any, send: Any) -> None:
        reached.append(dict(scope["headers"])[b"origin"].decode() if b"origin" in dict(scope["headers"]) else "none")

    app = Manners(sockets, MannersSettings(origins=("https://friend.example",)))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    for headers in (
        {},
        {"origin": "http://127.0.0.1:8080"},
        {"origin": "https://friend.example"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://evil.example", "host": "evil.example"},
    ):
        await app(http_scope("GET", "/live", headers, type="websocket"), receive, send)
    assert reached == ["none", "http://127.0.0.1:8080", "https://friend.example"]
    assert [message["status"] for message in sent if "status" in message] == [421] * 3


async def test_a_body_that_trickles_in_too_slowly_is_given_up(house: House) -> None:
    app = polite(house, body_timeout_s=0.02)
    exchange = Exchange(http_scope("POST", "/read"), [b"half"], complete=False)
    async with started(app, exchange) as task:
        await asyncio.wait([task], timeout=30)
    answer = exchange.answer()
    assert (answer.status, answer.json()["type"]) == (408, "/problems/core/slow-body")
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_answer_that_does_not_begin_in_time_is_given_up_and_its_handler_cancelled(
    house: House, method: str
) -> None:
    answer = await call(polite(house, request_timeout_s=0.02), method, "/hang")
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert house.cancelled.is_set()


async def test_an_answer_that_has_begun_may_take_its_time() -> None:
    go = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"begun"
        await go.wait()
        yield b" and ended"

    async def handler(request: Request) -> Answer:
        return Stream(pieces(), "text/plain")

    app = Manners(asgi(handler), MannersSettings(request_timeout_s=0.02))
    exchange = Exchange(http_scope("GET", "/"), [b""])
    async with started(app, exchange) as task:
        await exchange.body_beyond(0)
        overdue = await call(Manners(House().app, MannersSettings(request_timeout_s=0.1)), "GET", "/hang")
        assert overdue.status == 503  # by now the stream's own deadline has passed as well
        go.set()
        await asyncio.wait([task], timeout=30)
    assert exchange.body == b"begun and ended"


async def test_a_cancellation_that_is_not_ours_passes(house: House) -> None:
    exchange = Exchange(http_scope("GET", "/hang"), [b""])
    async with started(polite(house), exchange) as task:
        await house.entered.wait()
        task.cancel()
        await asyncio.wait([task], timeout=30)
        assert task.cancelled()
    assert exchange.sent == []


async def test_no_body_is_longer_than_the_server_s_limit(house: House) -> None:
    app = polite(house, body_bytes_max=100)
    assert (await call(app, "POST", "/read", body=[b"x" * 60, b"x" * 40])).text == "100"
    assert (await call(app, "POST", "/read", body=[b"x" * 60, b"x" * 41])).status == 413


async def test_an_application_that_raises_is_answered_for(house: House, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("a secret")

    answer = await call(Manners(broken), "GET", "/")
    assert answer.status == 500 and b"secret" not in answer.body and "a secret" in caplog.text
    assert answer.headers["x-request-id"]


async def test_every_request_is_told_to_the_access_log(house: House) -> None:
    lines: list[tuple[str, int, float, str]] = []
    app = Manners(house.app, access=lambda scope, *rest: lines.append((scope["path"], *rest)))
    answers: list[Called] = [await call(app, "GET", path) for path in ("/json", "/nowhere", "/fault")]
    assert [(path, status) for path, status, _, _ in lines] == [("/json", 200), ("/nowhere", 404), ("/fault", 500)]
    assert [id for *_, id in lines] == [answer.headers["x-request-id"] for answer in answers]
    assert all(seconds >= 0 for _, _, seconds, _ in lines)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["host", "origin", "accept-encoding", "x-request-id", "content-length"]),
        st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=255), max_size=30),
    )
)
async def test_no_header_causes_a_fault(headers: dict[str, str]) -> None:
    app = polite(House(), origins=("https://a.example",))
    for method, room in (("GET", "/text"), ("POST", "/read"), ("OPTIONS", "/json")):
        assert (await call(app, method, room, headers=headers)).status < 500
