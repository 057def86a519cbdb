"""Pastes over HTTP: the JSON API, the pages, and what strangers put into them."""

import asyncio
import html
import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from mainspring.core.ports import Database
from tests.asgi import Called, call
from tests.social.links.conftest import GENEROUS, Listener, Start, listening
from tests.social.links.payloads import PAYLOADS
from tests.social.links.sealing import JSON_HEADERS, adata, answer, seal, verifier

KEY = bytes(range(3, 35))
FORM = {"content-type": "application/x-www-form-urlencoded"}

OUR_TAGS = {
    "html", "head", "title", "body", "main", "h1", "h2", "h3", "p", "a", "pre", "code", "span", "div", "em", "strong", "ul",
    "ol", "li", "blockquote", "hr", "br", "table", "thead", "tbody", "tr", "th", "td", "s", "details", "summary",
}  # fmt: skip


@pytest.fixture
async def listener(start: Start, database: Database) -> AsyncIterator[Listener]:
    async with listening(database, await start(msgspec.structs.replace(GENEROUS))) as listener:
        yield listener


async def make(listener: Listener, **fields: Any) -> dict[str, Any]:
    made = await listener.api("POST", "/pastes", json={"body": "some text", **fields})
    assert made.status == 201, made.text
    return dict(made.json())


async def stranger(listener: Listener, method: str, target: str, **more: Any) -> Called:
    """The JSON API without a token."""
    return await call(listener.json_api, method, f"/api/links{target}", **more)


def sealed(text: str, *, proof: bool = False, **flags: int) -> dict[str, Any]:
    authenticated = adata(**flags)
    body = {"adata": authenticated, "ct": seal({"paste": text}, authenticated, KEY)}
    return {**body, "verifier": verifier(KEY).hex()} if proof else body


async def test_a_paste_through_all_of_its_life(listener: Listener) -> None:
    made = await make(listener, body="x = 1\n", format="code", title="One")
    id = made["id"]
    assert made["url"] == f"http://127.0.0.1:8410/pastes/{id}" and made["expires_at"].endswith("Z")
    view = (await listener.api("GET", f"/pastes/{id}")).json()
    assert (view["title"], view["language"], view["open"], view["mine"]) == ("One", "", True, True)
    raw = await stranger(listener, "GET", f"/pastes/{id}/raw")
    assert raw.text == "x = 1\n" and raw.headers["content-type"] == "text/plain; charset=utf-8"
    again = await stranger(listener, "GET", f"/pastes/{id}/raw", headers={"if-none-match": raw.headers["etag"]})
    assert again.status == 304
    saved = await stranger(listener, "GET", f"/pastes/{id}/raw?download=true")
    assert saved.headers["content-disposition"] == f'attachment; filename="{id}.txt"'
    edited = await listener.api("PATCH", f"/pastes/{id}", json={"body": "import os\nfrom a import b\n"})
    assert (edited.json()["version"], edited.json()["language"]) == (2, "python")
    assert (await stranger(listener, "GET", f"/pastes/{id}/raw?version=1")).text == "x = 1\n"
    assert [one["number"] for one in (await stranger(listener, "GET", f"/pastes/{id}/versions")).json()] == [1, 2]
    diff = await stranger(listener, "GET", f"/pastes/{id}/diff")
    assert "-x = 1\n+import os\n" in diff.text and diff.headers["content-type"].startswith("text/x-diff")
    shown = (await stranger(listener, "GET", f"/pastes/{id}/html")).json()
    assert 'class="kn"' in shown["html"] and shown["language"] == "python"
    fork = (await listener.api("POST", f"/pastes/{id}/fork")).json()
    assert (await listener.api("GET", f"/pastes/{fork['id']}")).json()["forked_from"] == id
    assert (await stranger(listener, "DELETE", f"/pastes/{id}")).status == 403
    wrong = await stranger(listener, "DELETE", f"/pastes/{id}", headers={"x-delete-token": fork["delete_token"]})
    assert wrong.status == 403 and wrong.json()["type"] == "/problems/links/wrong-delete-token"
    token = {"x-delete-token": made["delete_token"]}
    assert (await stranger(listener, "DELETE", f"/pastes/{id}", headers=token)).status == 204
    for path in ("", "/raw", "/html", "/versions", "/diff", "/files"):
        gone = await listener.api("GET", f"/pastes/{id}{path}")
        assert gone.status == 404 and gone.json()["type"] == "/problems/links/unknown-paste"


async def test_one_key_makes_one_paste(listener: Listener) -> None:
    headers = {"idempotency-key": "once"}
    body = {"body": "x", "expire": "1week"}
    first, second = [await listener.api("POST", "/pastes", json=body, headers=headers) for _ in range(2)]
    assert first.json() == second.json() and second.headers["idempotency-replayed"] == "true"
    assert len((await listener.api("GET", "/pastes")).json()["items"]) == 1


async def test_what_burns_is_revealed_by_a_post_only(listener: Listener) -> None:
    made = await make(listener, burn_after=2, password="sesame")
    id = made["id"]
    for method, path in (("GET", "/raw"), ("GET", "/html"), ("GET", "/diff"), ("POST", "/fork")):
        refused = await listener.api(method, f"/pastes/{id}{path}")
        assert refused.status == 403 and refused.json()["type"] == "/problems/links/must-reveal"
    wrong = await stranger(listener, "POST", f"/pastes/{id}/reveal", json={"password": "x"})
    assert wrong.status == 403 and wrong.json()["type"] == "/problems/links/wrong-proof"
    assert (await stranger(listener, "POST", f"/pastes/{id}/reveal")).status == 403
    for left in (1, 0):
        shown = (await stranger(listener, "POST", f"/pastes/{id}/reveal", json={"password": "sesame"})).json()
        assert shown["body"] == "some text" and shown["paste"]["reads_left"] == left
    assert (await stranger(listener, "POST", f"/pastes/{id}/reveal", json={"password": "sesame"})).status == 404


async def test_a_challenge_is_answered_by_who_knows_the_key(listener: Listener) -> None:
    made = await make(listener, body="", sealed=sealed("secret", proof=True), burn_after=1)
    id = made["id"]
    assert made["url"] == f"http://127.0.0.1:8410/?{id}"
    view = (await stranger(listener, "GET", f"/pastes/{id}")).json()
    assert view["proof"] and view["sealed"] and not view["open"] and view["reads_left"] == 1
    assert (await listener.visit(f"/?{id}", headers=JSON_HEADERS)).json()["status"] == 1, (
        "no client of PrivateBin burns it"
    )
    nonce = (await stranger(listener, "POST", f"/pastes/{id}/challenge")).json()["nonce"]
    wrong = await stranger(listener, "POST", f"/pastes/{id}/reveal", json={"nonce": nonce, "mac": "0" * 64})
    assert wrong.status == 403
    proof = {"nonce": nonce, "mac": answer(KEY, id, nonce)}
    shown = (await stranger(listener, "POST", f"/pastes/{id}/reveal", json=proof)).json()
    assert shown["ct"] and shown["adata"] == adata() and "body" not in shown
    assert (await stranger(listener, "POST", f"/pastes/{id}/challenge")).status == 404


async def test_lists_go_on_where_they_ended(listener: Listener) -> None:
    ids = [
        (await make(listener, body=f"text number {n}", visibility="public" if n % 2 else "unlisted"))["id"]
        for n in range(7)
    ]

    async def all_of(query: str) -> list[str]:
        found: list[str] = []
        cursor = ""
        while True:
            page = (await listener.api("GET", f"/pastes?limit=2&{query}{cursor}")).json()
            found += [one["id"] for one in page["items"]]
            if page["next"] is None:
                return found
            cursor = f"&cursor={page['next']}"

    assert await all_of("") == ids[::-1]
    assert await all_of("scope=public") == ids[5::-2]
    assert await all_of("q=NUMBER") == ids[::-1] and await all_of("q=number%203") == [ids[3]]
    page = (await listener.api("GET", "/pastes?limit=2")).json()
    assert (await listener.api("GET", f"/pastes?limit=2&q=x&cursor={page['next']}")).status == 400


async def test_files_are_saved_and_never_shown(listener: Listener) -> None:
    id = (await make(listener))["id"]
    page = b"<script>alert(1)</script>"
    put = await listener.api("PUT", f"/pastes/{id}/files/a.html", body=page, headers={"content-type": "text/html"})
    assert put.json() == {"name": "a.html", "content_type": "text/html", "size_bytes": len(page)}
    for answered in (
        await stranger(listener, "GET", f"/pastes/{id}/files/a.html"),
        await listener.visit(f"/pastes/{id}/files/a.html"),
    ):
        assert answered.body == page and answered.headers["content-type"] == "application/octet-stream"
        assert answered.headers["content-disposition"] == "attachment"
    assert 'href="/pastes/' + id + '/files/a.html"' in (await listener.visit(f"/pastes/{id}")).text
    assert (await listener.api("DELETE", f"/pastes/{id}/files/a.html")).status == 204
    assert (await listener.api("DELETE", f"/pastes/{id}/files/a.html")).status == 404


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/body"),
        ({"body": ""}, "/body"),
        ({"body": "a\0b"}, "/body"),
        ({"body": "x", "format": "pdf"}, "/body/format"),
        ({"body": "x", "expire": "2days"}, "/body/expire"),
        ({"body": "x", "burn_after": 0}, "/body/burn_after"),
        ({"body": "x", "burn_after": 1_001}, "/body/burn_after"),
        ({"body": "x", "language": "<b>"}, "/body/language"),
        ({"body": "x", "title": "a\nb"}, "/title"),
        ({"body": "x", "more": 1}, "/body/more"),
        ({"body": "x", "sealed": {"adata": adata(), "ct": "AAAA"}}, "/sealed"),
        ({"sealed": {"adata": adata(), "ct": "***"}}, "/ct"),
        ({"sealed": {"adata": adata()[0], "ct": "AAAA"}}, "/body/sealed/adata"),
    ],
)
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_wrong_field_is_named(listener: Listener, body: Any, pointer: str) -> None:
    refused = await listener.api("POST", "/pastes", json=body)
    assert refused.status == 422 and refused.json()["pointer"].startswith(pointer), refused.text


async def test_no_id_is_odd_enough_for_more_than_a_404(listener: Listener) -> None:
    for id in ("x", "%00", "%2e%2e", "0" * 16, "F" * 16, "a" * 5_000, "%F0%9F%92%A9", "0123456789abcdef%00"):
        for path in ("", "/raw", "/versions", "/files", "/files/x"):
            assert (await listener.api("GET", f"/pastes/{id}{path}")).status == 404, id
            assert (await listener.visit(f"/pastes/{id}{path}")).status in (404, 405), id
        for path in ("/challenge", "/reveal", "/fork"):
            assert (await listener.api("POST", f"/pastes/{id}{path}")).status == 404, id


@pytest.mark.parametrize("format", ["plain", "code", "markdown"])
async def test_whatever_strangers_write_is_shown_as_text(listener: Listener, format: str) -> None:
    for payload in PAYLOADS:
        title = payload if payload.isprintable() else "x"
        language = "html" if format == "code" else ""
        id = (await make(listener, body=payload, format=format, title=title, language=language))["id"]
        for path in (f"/pastes/{id}", f"/pastes/{id}/embed"):
            page = await listener.visit(path)
            assert page.status == 200
            policy = page.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; style-src 'self'") and "script" not in policy
            assert_nothing_runs(page.text)
            if format == "plain":
                assert payload in html.unescape(re.sub(r"</?span[^>]*>", "", page.text))


def assert_nothing_runs(page: str) -> None:
    own = re.sub(r'<(?:meta|link) (?:charset|name|rel="stylesheet" href="/pastes/static/)[^>]*>', "", page)
    for name, attributes in re.findall(r"<\s*([a-zA-Z0-9!]+)([^>]*)", own.replace("<!doctype html>", "")):
        assert name.lower() in OUR_TAGS, f"<{name}>"
        bare = re.sub(r'(?:title|class)="[^"]*"', "", attributes)
        assert not re.search(r"\bon\w+\s*=|javascript:|data:|style=", bare, re.IGNORECASE), attributes


async def test_a_page_marks_the_lines_that_its_address_names(listener: Listener) -> None:
    id = (await make(listener, body="a\nb\nc\nd\n"))["id"]
    page = (await listener.visit(f"/pastes/{id}?L2-3")).text
    assert re.findall(r'<span class="line marked" id="L(\d)"', page) == ["2", "3"]
    assert page.count("autofocus") == 1
    assert "marked" not in (await listener.visit(f"/pastes/{id}?L9-99999999999")).text
    assert "marked" not in (await listener.visit(f"/pastes/{id}?<script>")).text


async def test_a_page_shows_every_version(listener: Listener) -> None:
    id = (await make(listener, body="first"))["id"]
    await listener.api("PATCH", f"/pastes/{id}", json={"body": "second"})
    assert "second" in (await listener.visit(f"/pastes/{id}")).text
    first = await listener.visit(f"/pastes/{id}?version=1")
    assert "first" in first.text and f'href="/pastes/{id}?version=2"' in first.text
    for wrong in ("x", "0", "99", "1" * 50):
        assert (await listener.visit(f"/pastes/{id}?version={wrong}")).status == 404


async def test_a_page_asks_for_a_click_before_anything_burns(listener: Listener) -> None:
    id = (await make(listener, burn_after=1, password="sesame", title="<b>"))["id"]
    for _ in range(3):
        asked = await listener.visit(f"/pastes/{id}")
        assert asked.status == 200 and "<form" in asked.text and "some text" not in asked.text
    wrong = await listener.visit(f"/pastes/{id}", "POST", body=b"password=x", headers=FORM)
    assert wrong.status == 403 and "That was not it" in wrong.text
    shown = await listener.visit(f"/pastes/{id}", "POST", body=b"password=sesame", headers=FORM)
    assert shown.status == 200 and "some text" in shown.text and shown.headers["cache-control"] == "no-store"
    assert (await listener.visit(f"/pastes/{id}")).status == 404


async def test_the_page_of_a_sealed_paste_is_the_one_that_decrypts(listener: Listener) -> None:
    id = (await make(listener, body="", sealed=sealed("secret")))["id"]
    assert (await listener.visit(f"/pastes/{id}")).headers["location"] == f"/?{id}"
    page = await listener.visit(f"/?{id}", headers={"accept": "text/html"})
    assert page.text == (await listener.visit("/?" + "0" * 16, headers={"accept": "text/html"})).text
    for name, kind in (("sealed.js", "text/javascript"), ("pastes.css", "text/css")):
        file = await listener.visit(f"/pastes/static/{name}")
        assert file.status == 200 and file.headers["content-type"].startswith(kind)
    for wrong in ("sealed.html", "..%2fpastes.py", "x"):
        assert (await listener.visit(f"/pastes/static/{wrong}")).status == 404
    refused = await listener.visit(f"/pastes/{id}/reveal", "POST", body=b"[]")
    assert refused.status == 400 and refused.headers["content-type"] == "application/problem+json"


async def test_an_open_paste_can_be_put_into_any_page(listener: Listener) -> None:
    id = (await make(listener, body="embedded"))["id"]
    script = await listener.visit(f"/pastes/{id}/embed.js")
    assert script.headers["content-type"].startswith("text/javascript") and f"/pastes/{id}/embed" in script.text
    framed = await listener.visit(f"/pastes/{id}/embed")
    assert "frame-ancestors *" in framed.headers["content-security-policy"] and "embedded" in framed.text
    for fields in ({"burn_after": 1}, {"password": "x"}, {"visibility": "private"}):
        other = (await make(listener, **fields))["id"]
        assert (await listener.visit(f"/pastes/{other}/embed.js")).status == 404
        assert (await listener.visit(f"/pastes/{other}/embed")).status in (403, 404)


async def test_an_editor_sees_how_a_text_will_look(listener: Listener) -> None:
    asked = {"body": "def f(self):\n    return 1\n", "format": "code"}
    shown = (await listener.api("POST", "/pastes/preview", json=asked)).json()
    assert shown["language"] == "python" and 'class="k"' in shown["html"]
    assert (await stranger(listener, "POST", "/pastes/preview", json=asked)).status == 401


async def test_a_body_of_ten_mebibytes_passes_and_one_more_byte_does_not(listener: Listener) -> None:
    text = "0123456789abcdef" * (10 << 16)
    id = (await make(listener, body=text))["id"]
    assert (await stranger(listener, "GET", f"/pastes/{id}/raw")).text == text
    refused = await listener.api("POST", "/pastes", json={"body": text + "x"})
    assert refused.status == 413 and refused.json()["bytes_max"] == 10 << 20


async def test_readers_are_answered_while_a_page_is_rendered(listener: Listener) -> None:
    id = (await make(listener, body="x = 1\n" * 2_000, format="code", language="python"))["id"]
    page = asyncio.ensure_future(listener.visit(f"/pastes/{id}"))
    answered = 0
    while not page.done():
        assert (await stranger(listener, "GET", f"/pastes/{id}")).status == 200
        answered += 1
        await asyncio.sleep(0)  # a read within its budget never suspends, as a connection's does between requests
    assert (await page).status == 200 and answered > 0
