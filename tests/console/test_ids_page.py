"""The page of ids: mint and copy, read any id, who holds which worker id, a clock set back."""

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
    await page.get_by_label("An id", exact=True).fill(text)
    read = page.get_by_test_id("read")
    await expect(read).to_contain_text("uuid7")
    await expect(read).to_contain_text("128 bits")
    await expect(page.get_by_test_id("workers")).to_contain_text("this process")
    await expect(page.get_by_test_id("setback")).to_contain_text("every id distinct and rising")
    await shoot(page, "ids")


async def test_bad_input_says_what_is_wrong_and_changes_nothing(open_page: Open) -> None:
    page = await open_page("ids")
    await page.get_by_label("An id", exact=True).fill("!!!")
    await expect(page.get_by_role("alert")).to_be_visible()
    await page.get_by_label("An id", exact=True).fill("175928847299117063")
    await expect(page.get_by_test_id("read")).to_contain_text("64 bits")
