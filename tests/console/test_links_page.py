"""The page of links: shorten, follow, watch the click appear, rules, QR code, import; and pastes sealed in the page."""

import urllib.error
import urllib.request

import pytest
from playwright.async_api import Page, expect

from tests.console.conftest import Open
from tests.fixtures_server import Server

pytestmark = pytest.mark.browser
TARGET = "https://example.org/a/long/path"


async def shorten(page: Page, alias: str, url: str = TARGET) -> None:
    form = page.get_by_role("region", name="Shorten")
    await form.get_by_label("Address").fill(url)
    await form.get_by_label("Alias").fill(alias)
    await expect(page.get_by_test_id("alias")).to_have_text("free")
    await form.get_by_role("button", name="Shorten", exact=True).click()
    await expect(page.get_by_test_id("made")).to_contain_text(alias)


def follow(server: Server, code: str, **headers: str) -> str:
    """Where a short link leads, without going there."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *args: object) -> None:
            return None

    agent = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0"}
    request = urllib.request.Request(server.listener("links") + code, headers=agent | headers)
    try:
        urllib.request.build_opener(Stay).open(request, timeout=30)
    except urllib.error.HTTPError as answer:
        return answer.headers["location"]
    raise AssertionError("it did not redirect")


async def test_a_link_is_shortened_followed_and_its_click_appears(open_page: Open, server: Server, shoot) -> None:
    page = await open_page("links")
    await shorten(page, "brass")
    await expect(page.get_by_test_id("links")).to_contain_text("brass")
    assert follow(server, "brass") == TARGET
    await expect(page.get_by_test_id("live")).to_contain_text("brass", timeout=30_000)
    await shoot(page, "links")
    await page.get_by_role("button", name="brass", exact=True).first.click()
    await expect(page.get_by_test_id("sums")).to_contain_text("1 clicks", timeout=30_000)
    await expect(page.get_by_test_id("qr")).to_be_visible()
    assert await page.get_by_test_id("qr").evaluate("image => image.naturalWidth") > 0
    await shoot(page, "link")


async def test_an_alias_that_is_taken_is_told_while_typing_and_a_bad_address_when_sent(open_page: Open) -> None:
    page = await open_page("links")
    await shorten(page, "once")
    form = page.get_by_role("region", name="Shorten")
    await form.get_by_label("Alias").fill("once")
    await expect(page.get_by_test_id("alias")).to_have_text("taken")
    await form.get_by_label("Alias").fill("")
    await form.get_by_label("Address").fill("javascript:alert(1)")
    await form.get_by_role("button", name="Shorten", exact=True).click()
    await expect(form.get_by_role("alert")).to_be_visible()


async def test_a_rule_sends_phones_elsewhere_and_try_as_says_why(open_page: Open, server: Server, shoot) -> None:
    page = await open_page("links")
    await shorten(page, "app")
    await page.get_by_role("button", name="app", exact=True).first.click()
    await page.get_by_role("button", name="Rule", exact=True).click()
    rule = page.get_by_test_id("rule-0")
    await rule.get_by_label("Go to").fill("https://example.org/mobile")
    await page.get_by_role("button", name="Save rules").click()
    await expect(page.get_by_test_id("explain")).to_contain_text("No rule holds")
    await page.get_by_label("device", exact=True).fill("mobile")
    await expect(page.get_by_test_id("explain")).to_contain_text("https://example.org/mobile")
    await shoot(page, "rules")
    iphone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Version/18.5 Mobile/15E148"
    assert follow(server, "app", **{"user-agent": iphone}) == "https://example.org/mobile"
    assert follow(server, "app") == TARGET


async def test_many_links_are_imported_and_each_refusal_is_told(open_page: Open) -> None:
    page = await open_page("links?part=import")
    lines = "url,alias\nhttps://example.org/1,one\njavascript:alert(1),two\nhttps://example.org/3,three\n"
    await page.get_by_label("Lines").fill(lines)
    await page.get_by_role("button", name="Import", exact=True).click()
    await expect(page.get_by_test_id("imported")).to_have_text("2 made, 1 refused.")


async def test_a_sealed_paste_is_read_once_and_its_key_is_in_no_request(open_page: Open, shoot) -> None:
    page = await open_page("links?part=pastes")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(f"{request.url} {request.post_data or ''}"))
    await page.get_by_label("Text", exact=True).fill("only for you")
    await page.get_by_role("switch", name="Burn after reading").click()
    await page.get_by_role("button", name="Paste", exact=True).click()
    address = (await page.get_by_test_id("pasted").locator(".mono").first.inner_text()).strip()
    assert "#" in address
    await shoot(page, "paste")
    await page.get_by_label("Address of a paste").fill(address)
    await page.get_by_role("button", name="Find", exact=True).click()
    await page.get_by_role("button", name="Show it, once and for all").click()
    await expect(page.get_by_label("What it says")).to_have_value("only for you")
    await page.get_by_role("button", name="Find", exact=True).click()
    await expect(page.get_by_role("region", name="Open").get_by_role("alert")).to_be_visible()
    key = address.partition("#")[2]
    assert not [one for one in sent if key in one or "only for you" in one]


async def test_a_plain_paste_is_shown_changed_and_compared(open_page: Open, shoot) -> None:
    page = await open_page("links?part=pastes")
    await page.get_by_role("switch", name="Sealed").click()
    await page.get_by_label("Title").fill("script")
    await page.get_by_label("Text", exact=True).fill("print('<b>one</b>')\n")
    await page.get_by_role("button", name="Paste", exact=True).click()
    await page.get_by_role("button", name="script").click()
    await page.get_by_role("tab", name="Edit").click()
    await page.get_by_label("New text").fill("print('two')\n")
    await page.get_by_role("button", name="Save as a new version").click()
    await page.get_by_role("tab", name="Changes").click()
    await expect(page.get_by_test_id("diff")).to_contain_text("+print('two')")
    await shoot(page, "paste-versions")
