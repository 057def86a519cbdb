"""What a visitor of a short link gets, in every state a link can be in."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from mainspring.core.clock import VirtualClock
from mainspring.core.config import Config
from mainspring.core.ports import Database
from mainspring.core.problems import Unavailable
from mainspring.social.links import LinkEdit, LinksSettings, NewLink, redirects
from mainspring.social.links.domains import Domain
from mainspring.social.links.rules import Condition, Rule, Variant
from tests.asgi import Called
from tests.social.links.conftest import GENEROUS, Listener, Start, drain, listening
from tests.social.links.payloads import PAYLOADS
from tests.waiting import until

URL = "https://example.com/some/where"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.0 Mobile/15E148 Safari/604.1"
)


def head(path: str = "/x", **headers: str) -> bytes:
    lines = "".join(
        f"{name.replace('_', '-')}: {value}\r\n" for name, value in {"host": "127.0.0.1:8410", **headers}.items()
    )
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode()


async def from_memory(listener: Listener, path: str, host: str = "127.0.0.1:8410") -> bytes:
    """The answer that is ready after a visit."""
    await listener.visit(path, headers={"host": host})
    ready = listener.server.ready(head(path, host=host), "192.0.2.1")
    assert ready is not None
    return ready


async def test_a_visit_is_redirected_from_memory_after_the_first_one(listener: Listener) -> None:
    made = await listener.links.create(URL)
    assert listener.server.ready(head(f"/{made.code}"), "192.0.2.1") is None
    first = await listener.visit(f"/{made.code}")
    assert (first.status, first.headers["location"]) == (302, URL)
    assert first.headers["cache-control"] == "private, max-age=90"
    ready = await from_memory(listener, f"/{made.code}")
    lines = ready.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 302 Found" and f"location: {URL}" in lines and "content-length: 0" in lines
    assert lines[2] == "cache-control: private, max-age=90" and lines[3].startswith("date: ")
    assert ready.endswith(b"\r\n\r\n") and ready.count(b"\r\n\r\n") == 1


async def test_each_domain_has_its_own_links_from_memory_too(listener: Listener) -> None:
    links = listener.links
    await links.domains.add("s.example")
    await links.create(URL, alias="x")
    await links.create(URL + "/there", alias="x", domain="s.example")
    for host, target in (("127.0.0.1:8410", URL), ("S.example", URL + "/there"), ("unknown.example", URL)):
        assert (await listener.visit("/x", headers={"host": host})).headers["location"] == target
        assert f"location: {target}\r\n".encode() in await from_memory(listener, "/x", host)
    await drain(links)
    assert await links.counting.sums(["domain:0", "domain:1"]) == {"domain:0": (6, 6), "domain:1": (3, 3)}


async def test_an_edit_is_seen_by_the_very_next_visit(listener: Listener) -> None:
    made = await listener.links.create(URL)
    await listener.visit(f"/{made.code}")
    await listener.links.edit(made.id, LinkEdit(url="https://example.com/new"))
    assert listener.server.ready(head(f"/{made.code}"), "192.0.2.1") is None
    assert (await listener.visit(f"/{made.code}")).headers["location"] == "https://example.com/new"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_each_kind_of_redirect(listener: Listener, status: int) -> None:
    made = await listener.links.create(URL, redirect=status)
    for method in ("GET", "HEAD"):
        answer = await listener.visit(f"/{made.code}", method)
        assert (answer.status, answer.headers["location"], answer.body) == (status, URL, b"")


async def test_a_query_goes_along_unless_it_should_not(listener: Listener) -> None:
    along = await listener.links.create(URL + "?a=1#top")
    alone = await listener.links.create(URL, forward_query=False)
    assert (await listener.visit(f"/{along.code}?b=%20")).headers["location"] == URL + "?a=1&b=%20#top"
    assert (await listener.visit(f"/{alone.code}?b=2")).headers["location"] == URL
    assert (await listener.visit(f"/{along.code}?qr=1")).headers["location"] == URL + "?a=1#top"
    assert (await listener.visit(f"/{along.code}?qr=1&c")).headers["location"] == URL + "?a=1&c#top"
    assert (await listener.visit(f"/{along.code}?qr=10")).headers["location"] == URL + "?a=1&qr=10#top"
    assert (await listener.visit(f'/{along.code}?"<>')).headers["location"] == URL + "?a=1&%22%3C%3E#top"


async def test_a_post_keeps_its_method_where_the_redirect_says_so(listener: Listener) -> None:
    await listener.links.create(URL, alias="x", redirect=307)
    answer = await listener.visit("/x", "POST", body=b"{}", headers={"content-type": "application/json"})
    assert (answer.status, answer.headers["location"]) == (307, URL)


async def test_unknown_codes_are_404_as_a_page_or_as_the_domain_says(listener: Listener) -> None:
    answer = await listener.visit("/nothing")
    assert answer.status == 404 and answer.headers["content-type"].startswith("text/html")
    await listener.links.edit_domain(
        "127.0.0.1:8410",
        {
            "base_redirect": "https://example.com/base",
            "invalid_redirect": "https://example.com/invalid",
            "not_found_redirect": "https://example.com/404",
        },
    )
    for path, where in (("/", "base"), ("/nothing", "invalid"), ("/a/b/c/d/e", "404")):
        assert (await listener.visit(path)).headers["location"] == f"https://example.com/{where}"


@pytest.mark.parametrize(
    "path", ["/%2e%2e", "/%2e%2e/%2e%2e/etc/passwd", "/code...", "/" + "a" * 65_536, "/%00", "/%ff%fe", "/a%0d%0ab"]
)
async def test_odd_paths_are_404_without_asking_the_database(listener: Listener, path: str) -> None:
    await until(lambda: listener.links.resolver.known.ready)
    loads = listener.links.resolver.loads
    answer = await listener.visit(path)
    assert answer.status in (400, 404) and listener.links.resolver.loads == loads
    assert not any("\r" in value or "\n" in value for value in answer.headers.values())


async def test_time_limits_hold_to_the_moment(start: Start, database: Database) -> None:
    clock = VirtualClock()
    links = await start(clock=clock)
    async with listening(database, links) as listener:
        await links.create(URL, alias="x", valid_since="2026-01-01T00:01:00Z", valid_until="2026-01-01T00:02:00Z")
        for seconds, status in ((0, 404), (59.999, 404), (0.001, 302), (59.999, 302), (0.001, 410), (3600, 410)):
            await clock.advance(seconds)
            answer = await listener.visit("/x")
            assert answer.status == status
            if status == 302:
                kept_s = 60 if seconds < 1 else 0
                expected = f"private, max-age={kept_s}" if kept_s else "no-store"
                assert answer.headers["cache-control"] == expected


async def test_200_racing_for_the_only_visit_one_is_redirected_and_199_are_told_it_is_gone(listener: Listener) -> None:
    made = await listener.links.create(URL, max_visits=1)
    answers = await asyncio.gather(*(listener.visit(f"/{made.code}") for _ in range(200)))
    assert sorted({answer.status for answer in answers}) == [302, 410]
    assert sum(answer.status == 302 for answer in answers) == 1
    assert (await listener.links.get(made.id)).visits_left == 0


async def test_a_head_request_spends_no_visit(listener: Listener) -> None:
    made = await listener.links.create(URL, max_visits=1)
    for method, status in (("HEAD", 302), ("HEAD", 302), ("GET", 302), ("HEAD", 410), ("GET", 410)):
        assert (await listener.visit(f"/{made.code}", method)).status == status


@pytest.mark.parametrize(("state", "status"), [("disabled", 410), ("legal", 451), ("active", 302)])
async def test_a_state_shows_at_once(listener: Listener, state: str, status: int) -> None:
    made = await listener.links.create(URL)
    await listener.visit(f"/{made.code}")
    await listener.links.edit(made.id, LinkEdit(state=state))
    assert (await listener.visit(f"/{made.code}")).status == status


async def test_an_expired_link_goes_where_its_domain_says(listener: Listener) -> None:
    await listener.links.create(URL, alias="x", valid_until="2020-01-01T00:00:00Z")
    await listener.links.edit_domain("127.0.0.1:8410", {"expired_redirect": "https://example.com/late"})
    assert (await listener.visit("/x")).headers["location"] == "https://example.com/late"


def form(**fields: str) -> dict[str, Any]:
    body = "&".join(f"{name}={value}" for name, value in fields.items()).encode()
    return {"body": body, "headers": {"content-type": "application/x-www-form-urlencoded"}}


async def test_a_password_must_be_given_and_can_be_tried_five_times_a_minute(start: Start, database: Database) -> None:
    clock = VirtualClock()
    links = await start(clock=clock)
    async with listening(database, links) as listener:
        await links.create(URL, alias="x", password="sesame")
        page = await listener.visit("/x")
        assert page.status == 200 and 'type="password"' in page.text and URL not in page.text
        assert "form-action" not in page.headers["content-security-policy"]  # browsers would hold back the redirect
        assert (await listener.visit("/x", "POST", **form(password="sesame"))).headers["location"] == URL
        statuses = [(await listener.visit("/x", "POST", **form(password="wrong"))).status for _ in range(6)]
        assert statuses == [403, 403, 403, 403, 429, 429]
        assert (await listener.visit("/x", "POST", **form(password="sesame"))).status == 429
        other = await listener.visit("/x", "POST", client=("192.0.2.7", 1), **form(password="sesame"))
        assert other.status == 303
        await clock.advance(60)
        assert (await listener.visit("/x", "POST", **form(password="sesame"))).status == 303


async def test_reported_targets_are_shown_before_anybody_goes_there(listener: Listener) -> None:
    made = await listener.links.create(URL)
    for number in range(3):
        assert (await listener.visit(f"/{made.code}")).status == 302
        for _ in range(2):
            await listener.links.report(made.id, "phishing", f"192.0.2.{number}")
    page = await listener.visit(f"/{made.code}")
    assert page.status == 200 and URL in page.text
    assert (await listener.visit(f"/{made.code}", "POST", **form(consent="1"))).headers["location"] == URL
    await listener.links.edit(made.id, LinkEdit(state="active"))
    assert (await listener.visit(f"/{made.code}")).status == 302


async def test_rules_send_visitors_by_what_they_are(listener: Listener) -> None:
    rules = (
        Rule((Condition("device", "ios"),), "https://example.com/ios"),
        Rule((Condition("language", "de"), Condition("query", "1", "a")), "https://example.com/de"),
        Rule(
            (Condition("referrer", "news.example"),),
            None,
            (Variant("https://example.com/a"), Variant("https://example.com/b")),
        ),
    )
    await listener.links.add(NewLink(url=URL, alias="x", rules=rules))

    async def where(target: str = "/x", **headers: str) -> str:
        answer = await listener.visit(
            target, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        assert answer.headers["cache-control"] == "no-store"
        return answer.headers["location"].removeprefix("https://example.com")

    assert await where(user_agent=IPHONE) == "/ios"
    assert await where("/x?a=1", accept_language="fr, de-AT;q=0.5") == "/de?a=1"
    assert await where("/x?a=1", accept_language="fr, de;q=0") == "/some/where?a=1"
    variants = [await where(referer="https://www.news.example/story", user_agent=f"agent {n % 20}") for n in range(40)]
    assert set(variants) == {"/a", "/b"} and variants[:20] == variants[20:]


async def test_an_app_is_tried_first_with_the_web_behind_it(listener: Listener) -> None:
    rules = (Rule((Condition("device", "ios"),), "https://example.com/ios", app="myapp://open/7"),)
    await listener.links.add(NewLink(url=URL, alias="x", rules=rules))
    page = await listener.visit("/x", headers={"user-agent": IPHONE})
    assert 'href="myapp://open/7"' in page.text and "url=https://example.com/ios" in page.text
    assert "script-src 'nonce-" in page.headers["content-security-policy"]


async def test_a_card_is_shown_to_bots_and_nobody_else(listener: Listener) -> None:
    import msgspec

    card = {"title": PAYLOADS[0], "description": PAYLOADS[1], "image": "https://example.com/i.png"}
    await listener.links.add(msgspec.convert({"url": URL, "alias": "x", "card": card}, NewLink))
    page = await listener.visit("/x", headers={"user-agent": "Twitterbot/1.0"})
    assert page.status == 200 and "og:title" in page.text and "<script>" not in page.text
    assert (await listener.visit("/x", headers={"user-agent": IPHONE})).status == 302


async def test_a_preview_shows_where_a_link_leads_but_for_secrets(listener: Listener) -> None:
    await listener.links.create(URL, alias="open", title="Some & more")
    await listener.links.create(URL, alias="closed", password="sesame")
    page = await listener.visit("/open+")
    assert URL in page.text and 'rel="nofollow noopener ugc"' in page.text
    assert URL not in (await listener.visit("/closed+")).text
    assert (await listener.visit("/none+")).status == 404


async def test_what_others_wrote_is_shown_as_text(listener: Listener) -> None:
    from html import escape
    from urllib.parse import quote

    titles = [payload for payload in PAYLOADS if payload.isprintable()]
    assert len(PAYLOADS) >= 40 and len(titles) >= 36
    for number, payload in enumerate(PAYLOADS):
        title = payload if payload in titles else f"payload {number}"
        await listener.links.create(
            f"https://example.com/?x={quote(payload, safe='<>')}", alias=f"x{number}", title=title
        )
        page = (await listener.visit(f"/x{number}+")).text
        assert escape(title) in page
        tags = {tag.lower() for tag in re.findall(r"<\s*([a-zA-Z][^\s/>]*)", page)}
        assert not tags & {
            "script",
            "img",
            "svg",
            "iframe",
            "object",
            "embed",
            "form",
            "input",
            "base",
            "math",
            "plaintext",
        }


async def test_search_engines_may_follow_what_is_crawlable_and_many_of_them_cost_one_look(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    await listener.links.create(URL, alias="yes", crawlable=True)
    await listener.links.create(URL, alias="no")
    looks, crawlable = list[str](), listener.links.crawlable

    async def counted(domain: Domain) -> list[str]:
        looks.append(domain.host)
        return await crawlable(domain)

    monkeypatch.setattr(listener.links, "crawlable", counted)
    for _ in range(2):
        answers = await asyncio.gather(*(listener.visit("/robots.txt") for _ in range(20)))
        assert {answer.text for answer in answers} == {"User-agent: *\nAllow: /yes\nDisallow: /\n"}
    assert len(looks) == 1


async def test_whoever_tries_too_many_unknown_codes_is_told_to_stop(start: Start, database: Database) -> None:
    clock = VirtualClock()
    links = await start(settings=LinksSettings(unknown_per_minute=100), clock=clock)
    made = await links.create(URL)
    async with listening(database, links) as listener:
        statuses = [(await listener.visit(f"/guess{n}")).status for n in range(110)]
        assert statuses == [404] * 99 + [429] * 11
        assert (await listener.visit(f"/{made.code}")).status == 302
        assert (await listener.visit("/guess", client=("192.0.2.9", 1))).status == 404
        await clock.advance(60)
        assert (await listener.visit("/guess")).status == 404


def test_whoever_comes_from_ever_new_addresses_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redirects, "GUARDED_MAX", 100)
    guard = redirects.Guard(2)
    for number in range(950):
        assert guard.admits(f"2001:db8:0:{number:x}::1", 0)
        assert len(guard._seen) <= 100
    assert not guard.admits("2001:db8:0:3b5::2", 0), "the newest is known, by its network"


async def test_an_address_behind_a_trusted_proxy_is_the_visitors_own(start: Start, database: Database) -> None:
    links = await start(config=Config(trusted_proxies=["127.0.0.0/8", "10.0.0.0/8"]))
    rules = (Rule((Condition("ip", "198.51.100.0/24"),), "https://example.com/in"),)
    await links.add(NewLink(url=URL, alias="x", rules=rules))
    async with listening(database, links) as listener:
        for forwarded, path in (
            ("198.51.100.7", "/in"),
            ("203.0.113.1, 198.51.100.7, 10.0.0.3", "/in"),
            ("198.51.100.7, 203.0.113.1", "/some/where"),
            ("rubbish", "/some/where"),
        ):
            answer = await listener.visit("/x", headers={"x-forwarded-for": forwarded})
            assert answer.headers["location"] == f"https://example.com{path}"
        spoofed = await listener.visit("/x", headers={"x-forwarded-for": "198.51.100.7"}, client=("203.0.113.9", 1))
        assert spoofed.headers["location"].endswith("/some/where")


async def test_without_a_database_cached_links_go_on_and_all_else_says_when_to_come_back(
    start: Start, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state afterwards is that of a run without the outage, clicks included."""
    links = await start(settings=GENEROUS)
    warm, cold = await links.create(URL), await links.create(URL)
    limited, secret = await links.create(URL, max_visits=9), await links.create(URL, password="sesame")
    async with listening(database, links) as listener:
        for link in (warm, limited, secret):
            await listener.visit(f"/{link.code}")
        with monkeypatch.context() as outage:
            for verb in ("read", "write", "write_once"):
                outage.setattr(type(database), verb, _away)
            statuses: Callable[[], Any] = lambda: asyncio.gather(  # noqa: E731
                listener.visit(f"/{warm.code}"),
                listener.visit(f"/{cold.code}"),
                listener.visit(f"/{limited.code}"),
                listener.visit(f"/{secret.code}", "POST", **form(password="sesame")),
                listener.api("POST", "/links", json={"url": URL}),
            )
            answers: list[Called] = await statuses()
            assert [answer.status for answer in answers] == [302, 503, 503, 503, 503]
            assert all(answer.headers["retry-after"] for answer in answers[1:])
            with pytest.raises(Unavailable):
                await links.clicks.flush()
        assert (await links.get(limited.id)).visits_left == 8
        assert (await listener.visit(f"/{cold.code}")).status == 302
        assert links.clicks.dropped == 0
    await drain(links)
    ids = {link.id: clicks for link, clicks in ((warm, 2), (limited, 1), (cold, 1))}
    assert await links.counting.sums([f"link:{id}" for id in ids]) == {f"link:{id}": (n, n) for id, n in ids.items()}


async def _away(*args: Any, **kwargs: Any) -> Any:
    raise Unavailable("on purpose")
