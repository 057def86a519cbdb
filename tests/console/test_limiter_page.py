"""The page of the limiter: algorithms under one load, policies, a key, and a recorded log."""

import pytest
from playwright.async_api import expect

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


async def test_a_policy_that_is_none_is_refused_with_the_reason(open_page: Open) -> None:
    page = await open_page("limiter")
    await page.get_by_label("Limit", exact=True).fill("many/fortnight")
    await expect(page.get_by_role("alert")).to_be_visible()
