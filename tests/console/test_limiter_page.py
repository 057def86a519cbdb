"""The page of the limiter: algorithms under one load, policies, a key, and a recorded log."""

import pytest
from playwright.async_api import Locator, expect

from tests.console.conftest import Open

pytestmark = pytest.mark.browser

LOG = "\n".join(
    f'192.0.2.{n % 3} - - [28/Nov/2026:20:24:{n % 60:02} +0000] "GET /page HTTP/1.1" 200 512' for n in range(90)
)


async def test_a_policy_is_tried_set_hit_and_reset(open_page: Open, shoot) -> None:
    page = await open_page("limiter")
    compared = page.get_by_test_id("compared")
    for algorithm in ("token", "fixed", "sliding"):
        await expect(compared).to_contain_text(algorithm)
    policies = page.get_by_role("region", name="Policies")
    await policies.get_by_label("Name").fill("api")
    await policies.get_by_label("Limits").fill("2/minute")
    await policies.get_by_role("button", name="Set").click()
    await expect(page.get_by_test_id("policies")).to_contain_text("2/minute")
    key = page.get_by_role("region", name="A key")
    decision = page.get_by_test_id("decision")
    for left in ("1 of 2 left", "0 of 2 left"):
        await key.get_by_role("button", name="Hit").click()
        await expect(decision).to_contain_text(left)
    await key.get_by_role("button", name="Hit").click()
    await expect(decision).to_contain_text("denied")
    await shoot(page, "limiter")
    await key.get_by_role("button", name="Reset").click()
    await expect(decision).to_contain_text("the next hit leaves 1 of 2")
    await key.get_by_label("A limit of its own").fill("50/minute")
    await key.get_by_role("button", name="Set it").click()
    await expect(decision).to_contain_text("the next hit leaves 49 of 50")


async def test_a_recorded_log_is_replayed(open_page: Open, shoot) -> None:
    page = await open_page("limiter")
    replay = page.get_by_role("region", name="Replay an access log")
    await replay.get_by_label("Access log").fill(LOG)
    await replay.get_by_role("button", name="Replay", exact=True).click()
    told = page.get_by_test_id("replayed")
    await expect(told).to_contain_text("Of 90 requests")
    await expect(told).to_contain_text("of 3 keys")


async def still(line: Locator) -> str:
    """The path of a line once it has come to rest."""
    path = None
    while path is None or path != await line.get_attribute("d"):
        path = await line.get_attribute("d")
        await line.page.wait_for_timeout(500)
    return path


async def test_every_algorithm_is_driven_by_one_slider_on_one_axis_and_a_limit_that_is_none_is_refused(
    open_page: Open,
) -> None:
    page = await open_page("limiter")
    rows = page.get_by_test_id("compared").get_by_role("row")
    await expect(rows).to_have_count(6)
    denied = rows.filter(has_text="fixed").get_by_role("cell").nth(3)
    rate = page.get_by_role("slider", name="Hits a second")
    await rate.press("Home")
    await expect(denied).to_have_text("0")
    await rate.press("End")
    await expect(denied).not_to_have_text("0")
    for row in (await rows.all())[1:]:
        two = (await row.get_by_role("cell").all_inner_texts())[2:4]
        assert sum(int(text.replace(",", "")) for text in two) == 60 * 40 + 60 * 10, "admitted and denied are all"
    lines = page.get_by_role("region", name="Try a limit").locator(".recharts-line-curve")
    await expect(lines).to_have_count(6)
    before = await still(lines.last)
    await page.get_by_role("radiogroup", name="Lines show what was").get_by_text("denied").click()
    await expect(lines.last).not_to_have_attribute("d", before)
    await page.get_by_label("Limit", exact=True).fill("many/fortnight")
    await expect(page.get_by_role("alert")).to_be_visible()
