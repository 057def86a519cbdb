"""What is found out of a request: device, browser, bot, and a place where a MaxMind DB file says so."""

from pathlib import Path

import pytest

from mainspring.core.ports import Database
from mainspring.social.links import LinksSettings, NewLink
from mainspring.social.links.rules import Condition, Rule
from mainspring.social.links.visitors import Agent, Place, Visitors
from tests.needs import need_module
from tests.social.links.conftest import Start, drain, listening
from tests.social.links.places import maxmind_file

APPLE = "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0"
CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0"
AGENTS = {
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) {APPLE} Mobile Safari/604.1": Agent(
        "mobile", "ios", "safari"
    ),
    f"Mozilla/5.0 (iPad; CPU OS 17_0 like Mac OS X) {APPLE} Mobile/15E148 Safari/604.1": Agent(
        "tablet", "ios", "safari"
    ),
    f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {CHROME} Mobile Safari/537.36": Agent("mobile", "android", "chrome"),
    f"Mozilla/5.0 (Linux; Android 14; SM-X900) {CHROME} Safari/537.36": Agent("tablet", "android", "chrome"),
    f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {CHROME} Safari/537.36": Agent("desktop", "chromeos", "chrome"),
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {APPLE} Safari/605.1.15": Agent("desktop", "macos", "safari"),
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36 Edg/120.0.0.0": Agent(
        "desktop", "windows", "edge"
    ),
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36 OPR/106.0.0.0": Agent(
        "desktop", "windows", "opera"
    ),
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0": Agent(
        "desktop", "linux", "firefox"
    ),
    "Googlebot/2.1 (+http://www.google.com/bot.html)": Agent("", "", "googlebot", bot=True),
    "": Agent("", "", "", bot=True),
}


@pytest.mark.parametrize("user_agent", AGENTS, ids=lambda text: text[13:40])
async def test_an_agent_is_what_it_says(user_agent: str) -> None:
    visitors = Visitors()
    await visitors.prepare()
    assert visitors.agent(user_agent) == AGENTS[user_agent]
    assert visitors.place("192.0.2.1") == Place()


async def test_places_come_from_the_file_that_is_configured(start: Start, database: Database, tmp_path: Path) -> None:
    need_module("maxminddb")
    links = await start(settings=LinksSettings(geo_file=str(maxmind_file(tmp_path))))
    rules = (Rule((Condition("country", "at"), Condition("city", "VIENNA")), "https://example.com/vienna"),)
    made = await links.add(NewLink(url="https://example.com/", alias="x", rules=rules))
    async with listening(database, links) as listener:
        answer = await listener.visit("/x", client=("192.0.2.1", 1))
    assert answer.headers["location"] == "https://example.com/vienna"
    await drain(links)
    for address in ("2001:db8::1", "rubbish"):  # the file has IPv4 addresses only
        assert links.counting.visitors.place(address) == Place()
    for by, key in (("country", "AT"), ("city", "Vienna")):
        series = await links.stats(f"link:{made.id}", made.created_us, links.now_us() + 1, by)  # type: ignore[arg-type]
        assert [point.key for point in series.points] == [key]


@pytest.mark.parametrize("content", [None, b"", b"no database" * 100])
async def test_a_file_that_is_none_costs_no_visitor_the_redirect(
    start: Start, database: Database, tmp_path: Path, content: bytes | None
) -> None:
    need_module("maxminddb")
    file = tmp_path / "places.mmdb"
    if content is not None:
        file.write_bytes(content)
    links = await start(settings=LinksSettings(geo_file=str(file)))
    rules = (Rule((Condition("country", "AT"),), "https://example.com/at"),)
    await links.add(NewLink(url="https://example.com/", alias="x", rules=rules))
    async with listening(database, links) as listener:
        answer = await listener.visit("/x", client=("192.0.2.1", 1))
    assert answer.headers["location"] == "https://example.com/"
    await drain(links)
    assert await links.counting.sums(["all"]) == {"all": (1, 1)}
