"""The page of ids: mint and copy, read any id, who holds which worker id, a clock set back."""

import re

import pytest
from playwright.async_api import expect

from tests.console.conftest import Open

pytestmark = pytest.mark.browser


async def test_what_is_minted_can_be_copied_and_read(open_page: Open, shoot) -> None:
    page = await open_page("ids")
    await page.get_by_role("button", name="Mint").click()
    minted = page.get_by_test_id("minted")
    await expect(minted).to_be_visible()
    text = (await minted.inner_text()).split()[0]
    assert len(text) == 36
    await page.get_by_label(f"Copy {text}", exact=True).click()
    assert await page.evaluate("navigator.clipboard.readText()") == text
    await page.get_by_label("An id", exact=True).fill(text)
    read = page.get_by_test_id("read")
    await expect(read).to_contain_text("uuid7")
    await expect(read).to_contain_text("128 bits")
    await expect(read.get_by_role("img", name="time 48 bits, version 4 bits, sequence 12 bits")).to_be_visible()
    await shoot(page, "ids")

    # 64 bits, and who minted them, by the table of worker ids below, which moves on by itself.
    await page.get_by_role("combobox", name="Kind").click()
    await page.get_by_role("option", name="snowflake").click()
    await page.get_by_role("button", name="Mint").click()
    await expect(minted).not_to_contain_text(text)
    await page.get_by_label("An id", exact=True).fill((await minted.inner_text()).split()[0])
    await expect(read.get_by_role("img", name="unused 1 bits, time 41 bits, worker 10 bits")).to_be_visible()
    holder = await read.get_by_text("Minted by").locator("b").inner_text()
    row = page.get_by_test_id("workers").get_by_role("row").filter(has_text="this process")
    await expect(row).to_contain_text(holder)
    await expect(row).to_contain_text(re.compile(r"[0-9.]+ s ago"))
    await expect(row).not_to_have_text(await row.text_content() or "")


async def test_a_clock_set_back_by_the_slider_is_held_out_and_then_refused(open_page: Open) -> None:
    page = await open_page("ids")
    told = page.get_by_test_id("setback")
    await expect(told).to_contain_text("0 refused; every id distinct and rising")
    await page.get_by_role("slider", name="Seconds that the clock is set by").press("Home")
    await expect(told).to_contain_text("(ids/clock-behind); every id distinct and rising")
    await page.get_by_role("slider", name="Ids wanted each millisecond").press("End")
    await expect(told).to_contain_text("ids/too-fast")
    await expect(told).to_contain_text("every id distinct and rising")

    # Bad input says what is wrong and changes nothing.
    await page.get_by_label("An id", exact=True).fill("!!!")
    await expect(page.get_by_role("alert")).to_be_visible()
    await page.get_by_label("An id", exact=True).fill("175928847299117063")
    await expect(page.get_by_test_id("read")).to_contain_text("64 bits")
    await expect(page.get_by_role("alert")).to_have_count(0)
