"""The page of links: shorten, follow, watch the click appear, rules, QR code, import; and pastes sealed in the page."""

import csv
import io
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, expect

from tests.console.conftest import Open
from tests.fixtures_server import Server
from tests.social.links.payloads import PAYLOADS
from tests.social.links.places import maxmind_file

pytestmark = pytest.mark.browser
TARGET = "https://example.org/a/long/path"


@pytest.fixture
def server_settings(tmp_path: Path) -> tuple[str, ...]:
    """Everybody is in Vienna."""
    return (f"links.geo_file={maxmind_file(tmp_path)}",)


def logo() -> bytes:
    from PIL import Image

    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "PNG")
    return picture.getvalue()


async def choose(page: Page, label: str, value: str) -> None:
    await page.get_by_role("combobox", name=label).click()
    await page.get_by_role("option", name=value, exact=True).click()


async def design(region: Locator) -> None:
    """Draws a QR code with all that there is to choose; what is no picture is refused. The margin is beside the size."""
    code, file = region.get_by_test_id("qr"), region.locator("input[type=file]")
    await expect(code).to_have_js_property("naturalWidth", 300 + 2 * 16)
    await region.get_by_label("Pixels").fill("500")
    await region.get_by_text("H", exact=True).click()
    await expect(code).to_have_attribute("src", re.compile("size=500.*correction=H"))
    await expect(code).to_have_js_property("naturalWidth", 500 + 2 * 16)
    await file.set_input_files([{"name": "l.png", "mimeType": "image/png", "buffer": b"<svg onload='alert(1)'/>"}])
    await expect(region.get_by_role("alert")).to_be_visible()
    await file.set_input_files([{"name": "l.png", "mimeType": "image/png", "buffer": logo()}])
    await expect(code).to_have_attribute("src", re.compile("^blob:"))
    await expect(code).to_have_js_property("naturalWidth", 500 + 2 * 16)


async def shorten(page: Page, alias: str, url: str = TARGET) -> None:
    form = page.get_by_role("region", name="Shorten")
    await form.get_by_label("Address").fill(url)
    await form.get_by_label("Alias").fill(alias)
    await expect(page.get_by_test_id("alias")).to_have_text("free")
    await form.get_by_role("button", name="Shorten", exact=True).click()
    await expect(page.get_by_test_id("made")).to_contain_text(alias)


async def refuses_while_one_types(page: Page, taken: str) -> None:
    """An alias that somebody has, at once; a bad address, when it is sent."""
    form = page.get_by_role("region", name="Shorten")
    await form.get_by_label("Alias").fill(taken)
    await expect(page.get_by_test_id("alias")).to_have_text("taken")
    await form.get_by_label("Alias").fill("")
    await form.get_by_label("Address").fill("javascript:alert(1)")
    await form.get_by_role("button", name="Shorten", exact=True).click()
    await expect(form.get_by_role("alert")).to_be_visible()


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
    await refuses_while_one_types(page, "brass")
    await expect(page.get_by_test_id("links")).to_contain_text("brass")
    assert follow(server, "brass", referer="https://<img/src=x/onerror=alert(1)>.example/") == TARGET
    await expect(page.get_by_test_id("live")).to_contain_text("brass", timeout=30_000)
    await expect(page.get_by_test_id("countries")).to_have_text("Austria 1")
    await shoot(page, "links")
    await page.get_by_role("button", name="brass", exact=True).first.click()
    await expect(page.get_by_test_id("sums")).to_contain_text(
        "1 click, 0 of them by bots; about 1 visitor", timeout=30_000
    )
    clicks = page.get_by_role("region", name="Clicks")
    for by, value in (("browser", "firefox"), ("city", "Vienna"), ("referrer", "<img")):
        await choose(page, "By", by)
        await expect(clicks.get_by_role("row")).to_have_text([f"{value}1"])
    await shoot(page, "link")
    await design(page.get_by_role("region", name="QR code"))
    await shoot(page, "qr")


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


async def test_many_links_are_imported_each_refusal_is_told_and_what_was_written_is_text(open_page: Open) -> None:
    page = await open_page("links?part=import")
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    titles = [one for one in PAYLOADS if one.isprintable()][:20]
    lines = io.StringIO()
    csv.writer(lines).writerows([("url", "title"), ("javascript:alert(1)", "x"), *((TARGET, one) for one in titles)])
    await page.get_by_label("Lines").fill(lines.getvalue())
    await page.get_by_role("button", name="Import", exact=True).click()
    await expect(page.get_by_test_id("imported")).to_have_text("20 made, 1 refused.")
    await page.get_by_role("tab", name="Links", exact=True).click()
    table = page.get_by_test_id("links")
    for title in titles:
        await expect(table.get_by_text(title, exact=True)).to_be_visible()
    assert await page.locator("main script, main iframe, main object, main img").count() == 0
    await page.get_by_label("Choose all").check()
    await page.get_by_role("combobox", name="Tags to add").fill("spring")
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Add tags").click()
    await expect(table.get_by_text("spring", exact=True)).to_have_count(20)
    await page.get_by_label("Choose all").check()
    await page.get_by_role("button", name="Archive or bring back").click()
    await expect(table.get_by_text("archived", exact=True)).to_have_count(20)


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
    await page.get_by_label("Text", exact=True).fill("def one():\n    return '<b>one</b>'\n")
    await choose(page, "It is", "code")
    await page.get_by_role("tab", name="Look").click()
    await expect(page.locator(".shown span.nf")).to_have_text("one")
    await expect(page.locator(".shown")).to_contain_text("'<b>one</b>'")
    await page.get_by_role("button", name="Paste", exact=True).click()
    await page.get_by_role("button", name="script").click()
    await page.get_by_role("tab", name="Edit").click()
    await page.get_by_label("New text").fill("print('two')\n")
    await page.get_by_role("button", name="Save as a new version").click()
    await page.get_by_role("tab", name="Changes").click()
    await expect(page.get_by_test_id("diff")).to_contain_text("+print('two')")
    await shoot(page, "paste-versions")
