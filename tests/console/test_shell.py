"""The console's frame: found by name or need, one click to sign in, light and dark, by keyboard, on a phone."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.async_api import expect

from mainspring.core.manifest import manifests
from tests.console.conftest import Open
from tests.fixtures_server import environment

pytestmark = pytest.mark.browser


def run_each(programs: dict[str, str], folder: Path) -> None:
    """Runs programs that may await at their top level, each in a folder of its own."""
    lines = ["import asyncio, os"]
    for name, program in programs.items():
        (folder / name).mkdir()
        lines += [f"async def {name}():", *(f"    {line}" for line in program.splitlines())]
        lines += [f"os.chdir({str(folder / name)!r})", f"asyncio.run({name}())"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=120, env=environment()
    )
    assert done.returncode == 0, done.stderr


async def test_the_token_leaves_the_address_and_the_home_finds_a_system_by_what_it_is_for(
    open_page: Open, shoot
) -> None:
    page = await open_page()
    assert "token" not in page.url
    box = page.get_by_label("Find a system")
    await expect(page.get_by_role("link", name="limiter").last).to_be_visible()
    await shoot(page, "home")
    await box.fill("short link")
    await expect(page.locator("a.card")).to_have_count(1)
    await box.press("Enter")
    await expect(page.get_by_role("heading", level=1, name="Links")).to_be_visible()


async def test_without_the_token_one_is_asked_to_sign_in(open_page: Open) -> None:
    page = await open_page()
    await page.context.clear_cookies()
    await page.goto(page.url + "links")
    await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    await page.get_by_label("Name").fill("nobody")
    await page.get_by_role("textbox", name="Password").fill("wrong password here")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_be_visible()


async def test_the_owner_chooses_a_password_and_makes_a_token(open_page: Open, shoot) -> None:
    page = await open_page("account")
    await page.get_by_role("textbox", name="Password").fill("correct horse battery staple")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("heading", name="Choose a password")).to_be_hidden()
    await page.get_by_label("What for").fill("deploy")
    await page.get_by_label("May", exact=True).first.fill("ids:write")
    await page.get_by_role("option", name="ids:write").click()
    await page.get_by_role("button", name="Create").click()
    await expect(page.locator("pre[aria-label=token]")).to_contain_text("ms_")
    await shoot(page, "account")
    await page.get_by_role("tab", name="What happened").click()
    await expect(page.get_by_role("table")).to_contain_text("token")


async def test_every_page_works_at_a_phones_width_and_in_the_dark(open_page: Open, shoot) -> None:
    for name in ("", "ids", "limiter", "links"):
        page = await open_page(name, width=380, height=780, scheme="dark")
        await page.get_by_role("heading", level=1).first.wait_for()
        overflow = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, f"/{name} is {overflow} px wider than the screen"
        await shoot(page, f"phone-{name or 'home'}")


async def test_the_keyboard_reaches_everything_from_the_top(open_page: Open) -> None:
    page = await open_page()
    await page.keyboard.press("Tab")
    await expect(page.get_by_text("To the content")).to_be_focused()
    await page.keyboard.press("/")
    for _ in range(40):
        if await page.evaluate("document.activeElement?.closest('a.card') !== null"):
            break
        await page.keyboard.press("Tab")
    else:
        raise AssertionError("no card can be reached")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("tab", name="Use")).to_be_visible()


async def test_code_that_runs_metrics_and_promise_are_beside_every_page_and_an_errors_type_leads_to_one(
    open_page: Open, shoot, tmp_path: Path
) -> None:
    page = await open_page("ids?tab=api")
    await expect(page.locator("pre[aria-label=curl]")).to_contain_text("/api/ids")
    await shoot(page, "from-code")
    programs, home = {}, page.url.partition("ids?")[0]
    for name in manifests():
        await page.goto(f"{home}{name}?tab=api")
        programs[name] = await page.locator("pre[aria-label='Python, in your own process']").inner_text()
    await asyncio.to_thread(run_each, programs, tmp_path)
    await page.get_by_role("tab", name="Metrics").click()
    await expect(page.get_by_role("heading", name="Requests a second")).to_be_visible()
    await page.get_by_role("tab", name="About").click()
    await expect(page.get_by_role("heading", name="What it promises")).to_be_visible()
    await page.goto(f"{home}problems/ids/bad-count")
    await expect(page.get_by_role("heading", name="ids/bad-count")).to_be_visible()
