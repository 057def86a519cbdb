"""The JSON API below `/api/links`: what a console or a program can do with it."""

import asyncio
from typing import Any

import msgspec
import pytest

from mainspring.core.accounts import Caller
from mainspring.core.ports import Database
from mainspring.social.links import Links, LinksSettings
from mainspring.social.links.clicks import TOPIC, Batch, Click, encode_batch
from tests.asgi import Exchange, call, http_scope, started
from tests.social.links.conftest import Listener, Start, drain, listening

URL = "https://example.com/some/where"
DAY = 86_400_000_000


async def make(listener: Listener, **fields: Any) -> dict[str, Any]:
    answer = await listener.api("POST", "/links", json={"url": URL, **fields})
    assert answer.status == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_a_link_is_made_and_shown_with_all_that_there_is_to_say(listener: Listener) -> None:
    made = await make(
        listener, alias="x", tags=["t"], utm={"source": "news"}, max_visits=3, valid_until="2099-01-01T00:00:00Z"
    )
    assert made["short_url"] == "http://127.0.0.1:8410/x" and made["url"] == URL + "?utm_source=news"
    assert made["valid_until"] == "2099-01-01T00:00:00Z" and made["visits_left"] == 3 and made["state"] == "active"
    assert isinstance(made["id"], str) and made["created_at"].endswith("Z") and not made["has_password"]
    answer = await listener.api("GET", f"/links/{made['id']}")
    assert answer.json() == made and "password" not in answer.text.replace("has_password", "")


async def test_an_idempotency_key_gives_the_same_link_again(listener: Listener) -> None:
    answers = [
        await listener.api("POST", "/links", json={"url": URL}, headers={"idempotency-key": "one"}) for _ in range(2)
    ]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert answers[1].headers["idempotency-replayed"] == "true"
    other = await listener.api("POST", "/links", json={"url": URL + "2"}, headers={"idempotency-key": "one"})
    assert other.status == 422


@pytest.mark.parametrize(
    ("body", "status", "type", "pointer"),
    [
        ({"url": "javascript:alert(1)"}, 422, "links/scheme-not-allowed", "/url"),
        ({"url": "data:text/html,x"}, 422, "links/scheme-not-allowed", "/url"),
        ({"url": "file:///etc/passwd"}, 422, "links/scheme-not-allowed", "/url"),
        ({"url": "https://example.com/\r\nx: y"}, 422, "links/invalid-target", "/url"),
        ({"url": "https://example.com/" + "x" * 8192}, 422, "links/invalid-target", "/url"),
        ({"url": "http://127.0.0.1:8410/x"}, 422, "links/would-loop", "/url"),
        ({"url": "http://169.254.169.254/"}, 422, "links/private-target", "/url"),
        ({"url": URL, "alias": "pаypal"}, 422, "links/invalid-alias", "/alias"),
        ({"url": URL, "alias": "rest"}, 422, "links/invalid-alias", "/alias"),
        ({"url": URL, "domain": "other.example"}, 404, "links/unknown-domain", None),
        ({"url": URL, "max_visits": 0}, 422, "core/invalid", "/body/max_visits"),
        ({"url": URL, "nonsense": 1}, 422, "core/invalid", "/body/nonsense"),
        ({"url": URL, "title": "\0"}, 422, "core/invalid", None),
        ({}, 422, "core/invalid", "/body/url"),
    ],
)
async def test_bad_input_is_a_problem_that_names_its_field(
    listener: Listener, body: dict[str, Any], status: int, type: str, pointer: str | None
) -> None:
    answer = await listener.api("POST", "/links", json=body)
    assert (answer.status, answer.json()["type"]) == (status, f"/problems/{type}"), answer.text
    assert pointer is None or answer.json()["pointer"] == pointer
    assert (await listener.api("GET", "/links")).json()["items"] == []


async def test_links_come_in_pages_newest_first(listener: Listener) -> None:
    for number in range(5):
        await make(listener, alias=f"n{number}", tags=["even"] if number % 2 == 0 else [])
    page = (await listener.api("GET", "/links?limit=2")).json()
    assert [one["code"] for one in page["items"]] == ["n4", "n3"]
    page = (await listener.api("GET", f"/links?limit=2&cursor={page['next']}")).json()
    assert [one["code"] for one in page["items"]] == ["n2", "n1"]
    other = await listener.api("GET", f"/links?limit=2&q=x&cursor={page['next']}")
    assert other.status == 400 and other.json()["type"] == "/problems/core/invalid-cursor"
    page = (await listener.api("GET", f"/links?limit=2&cursor={page['next']}")).json()
    assert [one["code"] for one in page["items"]] == ["n0"] and page["next"] is None
    found = (await listener.api("GET", "/links?tag=even&q=EXAMPLE&archived=false")).json()
    assert [one["code"] for one in found["items"]] == ["n4", "n2", "n0"]


async def test_an_edit_with_an_old_version_is_refused(listener: Listener) -> None:
    made = await make(listener)
    path = f"/links/{made['id']}"
    seen = (await listener.api("GET", path)).headers["etag"]
    first = await listener.api("PATCH", path, json={"title": "one"}, headers={"if-match": seen})
    assert first.status == 200 and first.json()["version"] == 2
    assert (await listener.api("PATCH", path, json={"title": "two"}, headers={"if-match": seen})).status == 412
    assert (await listener.api("PATCH", path, json={"valid_until": "2099-01-01T00:00:00Z"})).status == 200
    (second, first_edit) = (await listener.api("GET", f"{path}/history")).json()
    assert second["before"] == {"valid_until": None} and first_edit["before"] == {"title": ""}
    assert (await listener.api("DELETE", path)).status == 204
    assert (await listener.api("GET", path)).status == 404


async def test_rules_are_set_and_explained(listener: Listener) -> None:
    made = await make(listener)
    rules = [
        {
            "when": [{"kind": "device", "value": "ios"}, {"kind": "country", "value": "AT"}],
            "target": "https://example.com/at",
        },
        {"when": [{"kind": "query", "key": "a", "value": "1"}], "target": "https://example.com/a"},
    ]
    answer = await listener.api("PUT", f"/links/{made['id']}/rules", json={"rules": rules})
    assert answer.json() == (await listener.api("GET", f"/links/{made['id']}/rules")).json() == {"rules": rules}

    async def explained(who: str) -> dict[str, Any]:
        found: dict[str, Any] = (await listener.api("GET", f"/links/{made['id']}/explain?as={who}")).json()
        return found

    first = await explained("device%3Dmobile%26os%3Dios%26country%3Dat")
    assert (first["rule"], first["target"]) == (0, "https://example.com/at")
    second = await explained("os%3Dios%26q.a%3D1")
    assert second["rule"] == 1 and [trial["fires"] for trial in second["trials"]] == [False, True]
    assert [finding["holds"] for finding in second["trials"][0]["findings"]] == [True, False]
    assert (await explained(""))["rule"] is None
    for wrong in ("ip%3Dx", "at%3Dx"):
        assert (await listener.api("GET", f"/links/{made['id']}/explain?as={wrong}")).status == 422


async def test_charts_are_read_by_any_dimension(listener: Listener) -> None:
    made = await make(listener, alias="x", tags=["t"])
    await listener.visit(
        "/x", headers={"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0"}
    )
    await drain(listener.links)
    for path in (
        f"/links/{made['id']}/stats?",
        "/stats?",
        "/stats?scope=tag:t&",
        "/stats?scope=domain:127.0.0.1:8410&",
    ):
        for by, key in (("browser", "firefox"), ("os", "linux"), ("source", "click")):
            series = (await listener.api("GET", f"{path}by={by}")).json()
            assert series == {"clicks": 1, "bots": 0, "visitors": 1, "points": [{"key": key, "clicks": 1, "bots": 0}]}
    assert (await listener.api("GET", "/tags")).json() == [{"tag": "t", "links": 1, "clicks": 1, "bots": 0}]
    assert (await listener.api("GET", f"/links/{made['id']}")).json()["clicks"] == 1
    for wrong in ("by=nonsense", "since=x", "since=2026-01-02&until=2026-01-01", "scope=x:y"):
        assert (await listener.api("GET", f"/stats?{wrong}")).status in (404, 422)


async def test_many_links_are_made_at_once(listener: Listener) -> None:
    body = {"links": [{"url": URL}, {"url": "ftp://example.com"}, {"url": URL, "alias": "mine"}]}
    results = (await listener.api("POST", "/bulk", json=body)).json()["results"]
    assert results[0]["link"]["url"] == URL and results[2]["link"]["code"] == "mine"
    assert results[1]["problem"]["type"] == "/problems/links/scheme-not-allowed"


async def test_domains_tags_and_aliases_are_looked_after(listener: Listener) -> None:
    assert (await listener.api("POST", "/domains", json={"host": "s.example", "alphabet": "lower"})).status == 201
    assert (await listener.api("POST", "/domains", json={"host": "s.example"})).status == 409
    for wrong in ("a/b", "a b", "user@host"):
        assert (await listener.api("POST", "/domains", json={"host": wrong})).status == 422
    edited = await listener.api("PATCH", "/domains/s.example", json={"base_redirect": "https://example.com/"})
    assert edited.json()["base_redirect"] == "https://example.com/"
    assert (await listener.api("PATCH", "/domains/s.example", json={"base_redirect": "javascript:x"})).status == 422
    assert [one["host"] for one in (await listener.api("GET", "/domains")).json()] == ["127.0.0.1:8410", "s.example"]
    await make(listener, alias="taken", tags=["old"])
    for alias, available in (("taken", False), ("free", True), ("not ok", False), ("taken&domain=s.example", True)):
        answer = (await listener.api("GET", f"/alias?alias={alias.replace(' ', '%20')}")).json()
        assert answer["available"] is available
    assert (await listener.api("PUT", "/tags/old", json={"name": "new"})).status == 204
    assert (await listener.api("DELETE", "/tags/new")).status == 204
    assert (await listener.api("GET", "/tags")).json() == []


async def test_anybody_can_report_a_link(listener: Listener) -> None:
    made = await make(listener, alias="x")
    for number in range(3):
        answer = await listener.api(
            "POST", "/reports", json={"short_url": made["short_url"], "reason": "spam"}, client=(f"192.0.2.{number}", 1)
        )
        assert answer.status == 204
    assert (await listener.api("GET", f"/links/{made['id']}")).json()["state"] == "suspect"
    assert (await listener.api("POST", "/reports", json={"short_url": "https://other.example/x"})).status == 404


async def test_reporting_can_be_kept_to_accounts(start: Start, database: Database) -> None:
    async with listening(database, await start(settings=LinksSettings(reports=False))) as listener:
        made = await make(listener, alias="x")
        report = {"short_url": made["short_url"]}
        assert (await call(listener.json_api, "POST", "/api/links/reports", json=report)).status == 401
        assert (await listener.api("POST", "/reports", json=report)).status == 204


CSVS = {
    "ours": "short_url,code,domain,url,title,tags,created_at,clicks\r\n,a,,https://example.com/1,One,x|y,2020-01-02T03:04:05Z,7\r\n",
    "shlink": '"createdAt","shortUrl","longUrl","title","tags","visits"\n'
    '"2020-01-02T03:04:05+00:00","https://s.test/a","https://example.com/1","One","x|y","7"\n',
    "yourls": "keyword,url,title,timestamp,ip,clicks\na,https://example.com/1,One,2020-01-02 03:04:05,192.0.2.1,7\n",
    "bitly": "Bitlink,Long URL,Title,Created,Tags,Total Clicks\nbit.ly/a,https://example.com/1,One,1577934245,x|y,7\n",
}


@pytest.mark.parametrize("name", CSVS)
async def test_links_come_in_from_other_services_with_codes_dates_and_counts(listener: Listener, name: str) -> None:
    text = CSVS[name].replace("bit.ly/a", "https://bit.ly/a")
    answer = await listener.api("POST", "/import", body=text.encode(), headers={"content-type": "text/csv"})
    assert answer.json() == {"made": 1, "refused": []}, answer.text
    (one,) = (await listener.api("GET", "/links")).json()["items"]
    assert (one["code"], one["url"], one["title"], one["clicks"]) == ("a", "https://example.com/1", "One", 7)
    assert one["created_at"] == "2020-01-02T03:04:05Z"
    assert one["tags"] == (["x", "y"] if name != "yourls" else [])
    series = await listener.api("GET", f"/links/{one['id']}/stats?since=2020-01-01&until=2020-01-03&by=source")
    assert series.json()["points"] == [{"key": "import", "clicks": 7, "bots": 0}]


async def test_what_cannot_come_in_is_told_by_its_line(listener: Listener) -> None:
    await make(listener, alias="taken")
    text = "code,url\nok,https://example.com\ntaken,https://example.com\nx y,https://example.com\nno,javascript:x\n"
    answer = await listener.api("POST", "/import", body=text.encode())
    assert answer.json()["made"] == 1 and [one["line"] for one in answer.json()["refused"]] == [3, 4, 5]
    for wrong in (b"", b"no,header\n", b"\xff\xfe", b'url\n"' + b"x" * 200_000):
        assert (await listener.api("POST", "/import", body=wrong)).status == 422


async def test_an_export_comes_in_again_as_it_was(listener: Listener) -> None:
    await make(listener, alias="a", title="=HYPERLINK(1)", tags=["x"], max_visits=4)
    await make(listener, alias="b", title='with "quotes", and\nlines')
    text = (await listener.api("GET", "/export")).text
    lines = text.split("\r\n")
    assert lines[0].startswith("short_url,code,domain,url") and "'=HYPERLINK(1)" in text
    for link in (await listener.api("GET", "/links")).json()["items"]:
        assert link["short_url"] in text
    renamed = text.replace(",a,", ",a2,").replace(",b,", ",b2,")
    assert (await listener.api("POST", "/import", body=renamed.encode())).json() == {"made": 2, "refused": []}
    assert (await listener.api("GET", "/links?q=quotes")).json()["items"][0]["title"] == 'with "quotes", and\nlines'


async def test_single_visits_can_be_taken_along(listener: Listener) -> None:
    made = await make(listener, alias="x")
    await listener.visit("/x", headers={"user-agent": "=cmd()", "referer": "https://news.example/"})
    await drain(listener.links)
    lines = (await listener.api("GET", f"/links/{made['id']}/visits")).text.split("\r\n")
    assert lines[0] == "at,kind,bot,target,referrer,user_agent,country,city" and lines[2] == ""
    assert lines[1].endswith(f"Z,click,false,{URL},https://news.example/,'=cmd(),,")


async def test_clicks_are_watched_live(listener: Listener, links: Links) -> None:
    made, other = await make(listener), await make(listener)
    headers = {"authorization": f"Bearer {listener.key}"}
    exchange = _Socket(http_scope("GET", f"/api/links/live?link={made['id']}", headers, type="websocket"))
    async with started(listener.json_api, exchange), asyncio.timeout(30):
        await exchange.accepted.wait()
        for sequence, code in enumerate((other["code"], made["code"])):
            batch = encode_batch(Batch("n", sequence, [Click(DAY, 0, code)]))
            await links.clicks.log.append_many(TOPIC, [(b"n", batch)])
            await drain(links)
        while not exchange.texts:
            exchange.changed.clear()
            await exchange.changed.wait()
    assert [msgspec.json.decode(text) for text in exchange.texts] == [{"clicks": 1, "links": {made["id"]: 1}}]


class _Socket(Exchange):
    def __init__(self, scope: dict[str, Any]) -> None:
        super().__init__({**scope, "subprotocols": []}, [])
        self._pieces = [{"type": "websocket.connect"}]
        self.accepted = asyncio.Event()

    async def send(self, message: dict[str, Any]) -> None:
        await super().send(message)
        if message["type"] == "websocket.accept":
            self.accepted.set()

    @property
    def texts(self) -> list[str]:
        return [message["text"] for message in self.sent if message["type"] == "websocket.send"]


async def test_accounts_keep_to_their_own(listener: Listener) -> None:
    from mainspring.core.accounts.model import ONE_CLICK

    made = {"id": (await listener.links.create(URL, by=Caller(7, "ann", "token", frozenset({"links:write"})))).id}
    token = (await listener.accounts.create_token(ONE_CLICK, "narrow", ["links:read", "links:write"])).secret
    for method, path, body in (
        ("PUT", "/tags/t", {"name": "n"}),
        ("POST", "/domains", {"host": "s.example"}),
        ("GET", "/stats?scope=orphan", msgspec.UNSET),
        ("GET", "/stats?scope=tag:t", msgspec.UNSET),
        ("PATCH", f"/links/{made['id']}", {"title": "x"}),
    ):
        answer = await listener.api(method, path, token=token, json=body)
        assert answer.status in (403, 404), (path, answer.text)
    assert (await listener.api("GET", "/links", token=token)).json()["items"] == []
    assert (await listener.api("GET", "/stats", token=token)).json()["clicks"] == 0
