"""The pages of pastes in a real browser: sealed ones are opened there by their key, which no request ever carries."""

import asyncio
import os
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.async_api import Page, async_playwright, expect

from mainspring.core.ports import Database
from mainspring.social.links.paste_model import NewPaste, Sealed, UnknownPaste
from tests.needs import need_program
from tests.social.links.conftest import GENEROUS, Listener, Start, listening
from tests.social.links.sealing import adata, base58, cipher, deflated, encrypted, seal, verifier

KEY = bytes(range(7, 39))
PATIENCE_MS = 60_000
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"]
MARKUP = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"

pytestmark = [pytest.mark.browser, pytest.mark.parametrize("database", ["sqlite"], indirect=True)]
Open = Callable[[str], Awaitable[Page]]


@pytest.fixture
async def listener(start: Start, database: Database) -> AsyncIterator[Listener]:
    async with listening(database, await start(msgspec.structs.replace(GENEROUS))) as listener:
        yield listener


@pytest.fixture
async def open_page(listener: Listener, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens a path. At the end no page may have thrown an error, and no request may have carried the key."""
    program = need_program("chromium", "chromium-browser", "google-chrome")
    shots = Path(os.environ.get("MAINSPRING_SCREENSHOTS") or tmp_path)
    server = await asyncio.get_running_loop().create_server(listener.server, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    listener.pastes.settings.public_url = address
    faults: list[str] = []
    secrets = (base58(KEY), KEY.hex(), b64encode(KEY).decode().rstrip("="), verifier(KEY).hex())

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        context = await browser.new_context(accept_downloads=True)

        async def look(asked: Any) -> None:
            told = f"{asked.url} {await asked.all_headers()} {asked.post_data or ''}"
            if any(secret in told for secret in secrets):
                faults.append(f"the key was sent: {told}")
            if not asked.url.startswith((address, "blob:")):
                faults.append(f"another host was asked: {asked.url}")

        async def open_page(path: str) -> Page:
            page = await context.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("request", look)
            await page.goto(address + path)
            return page

        yield open_page
        for number, page in enumerate(context.pages):
            await page.screenshot(path=shots / f"{request.node.originalname}-{number}.png", full_page=True)
        await browser.close()
    server.close()
    for connection in list(listener.server.connections):
        connection.cut()
    assert faults == []


async def sealed(listener: Listener, message: dict[str, Any], *, proof: bool = False, **more: Any) -> str:
    """Makes a sealed paste; gives the path that opens it."""
    password = more.pop("password", "")
    burn_after = more.pop("burn_after", None)
    authenticated: Any = adata(**more)
    ct = seal(message, authenticated, KEY, password)
    body = Sealed(authenticated, ct, verifier(KEY).hex() if proof else None)
    return await path_of(listener, NewPaste(sealed=body, burn_after=burn_after))


async def path_of(listener: Listener, new: NewPaste) -> str:
    return f"/?{(await listener.pastes.add(new)).id}#{base58(KEY)}"


async def is_gone(listener: Listener, path: str) -> bool:
    try:
        await listener.pastes.find(path[2:18])
    except UnknownPaste:
        return True
    return False


async def shown(page: Page, text: str) -> None:
    await expect(page.locator("#text")).to_have_text(text, timeout=PATIENCE_MS)


async def says(page: Page, text: str) -> None:
    await expect(page.locator("#state")).to_contain_text(text, timeout=PATIENCE_MS)


async def test_it_burns_at_a_click_and_not_before(listener: Listener, open_page: Open) -> None:
    path = await sealed(listener, {"paste": f"once {MARKUP}"}, burn=1)
    first, second = await open_page(path), await open_page(path)
    for page in (first, second):
        await says(page, "read once")
    assert not await is_gone(listener, path)
    await first.get_by_role("button").click()
    await shown(first, f"once {MARKUP}")
    assert await first.title() == "A sealed paste" and await is_gone(listener, path)
    await second.get_by_role("button").click()
    await says(second, "does not exist")
    assert await second.locator("#text").inner_text() == ""


async def test_a_key_is_proved_before_the_body_is_released(listener: Listener, open_page: Open) -> None:
    path = await sealed(listener, {"paste": "proved"}, proof=True, burn_after=1)
    wrong = await open_page(f"{path[:19]}{base58(bytes(range(9, 41)))}")
    await wrong.get_by_role("button").click()
    await says(wrong, "not what the key would answer")
    assert not await is_gone(listener, path)
    page = await open_page(path)
    await page.get_by_role("button").click()
    await shown(page, "proved")
    assert await is_gone(listener, path)


async def test_a_wrong_password_costs_nothing_though_it_was_the_only_reading(
    listener: Listener, open_page: Open
) -> None:
    path = await sealed(listener, {"paste": "with a password"}, burn=1, password="sésame")
    page = await open_page(path.replace("#", "#-"))
    await page.get_by_role("button").click()
    await says(page, "password")
    assert await is_gone(listener, path)
    for attempt in ("wrong", "sésame"):
        await page.get_by_label("Password").fill(attempt)
        await page.get_by_role("button").click()
        if attempt == "wrong":
            await says(page, "does not open it")
    await shown(page, "with a password")


async def test_files_and_comments_are_opened_too(listener: Listener, open_page: Open) -> None:
    content = bytes(range(256))
    message = {
        "paste": "see the file",
        "attachment": "data:text/html;base64," + b64encode(content).decode(),
        "attachment_name": "a file.html",
    }
    path = await sealed(listener, message, discussion=1)
    id = path[2:18]
    comment = seal({"comment": MARKUP, "nickname": "<b>me</b>"}, cipher(), KEY)
    await listener.pastes.comment(id, id, tuple(cipher()), comment)  # type: ignore[arg-type]
    page = await open_page(path)
    await page.get_by_role("button").click()
    await shown(page, "see the file")
    await expect(page.locator("#comments pre")).to_have_text(MARKUP, timeout=PATIENCE_MS)
    await expect(page.locator("#comments h3")).to_contain_text("<b>me</b>")
    async with page.expect_download(timeout=PATIENCE_MS) as download:
        await page.get_by_role("link", name="a file.html").click()
    saved = await (await download.value).path()
    assert saved.read_bytes() == content
    assert await page.title() == "A sealed paste"


async def test_a_bomb_goes_off_in_nobodys_browser(listener: Listener, open_page: Open) -> None:
    bomb = await asyncio.to_thread(deflated, b'{"paste":"' + bytes(200 << 20))
    authenticated: Any = adata()
    path = await path_of(listener, NewPaste(sealed=Sealed(authenticated, encrypted(bomb, authenticated, KEY))))
    page = await open_page(path)
    await page.get_by_role("button").click()
    await says(page, "larger than this page opens")


async def test_an_address_without_its_key_says_so(listener: Listener, open_page: Open) -> None:
    path = await sealed(listener, {"paste": "x"})
    await says(await open_page(path.partition("#")[0]), "not complete")
    await says(await open_page(f"{path[:19]}0OIl"), "not complete")
    await says(await open_page("/?" + "0" * 16 + f"#{base58(KEY)}"), "no such paste")
    assert not await is_gone(listener, path)


async def test_code_is_shown_with_its_colours_at_the_line_that_was_named(listener: Listener, open_page: Open) -> None:
    code = "".join(f"def function_{n}(): return {n}\n" for n in range(300))
    made = await listener.pastes.paste(code, format="code", title=MARKUP)
    assert (await listener.pastes.find(made.id))[1].language == "python"
    page = await open_page(f"/pastes/{made.id}?L200-202")
    await expect(page.locator(".line.marked")).to_have_count(3)
    await expect(page.locator("#L200")).to_be_in_viewport(timeout=PATIENCE_MS)
    await expect(page.locator("h1")).to_have_text(MARKUP)
    assert await page.locator(".line .k").count() >= 300


async def test_a_paste_in_another_page_is_a_frame_that_can_do_nothing(
    listener: Listener, open_page: Open, tmp_path: Path
) -> None:
    made = await listener.pastes.paste("embedded text")
    page = await open_page(f"/pastes/{made.id}")
    host = (
        f'<!doctype html><body><script src="{listener.pastes.settings.public_url}/pastes/{made.id}/embed.js"></script>'
    )
    await page.route("**/host.html", lambda route: route.fulfill(body=host, content_type="text/html"))
    await page.goto(f"{listener.pastes.settings.public_url}/host.html")
    frame = page.frame_locator("iframe")
    await expect(frame.locator(".line")).to_have_text("embedded text", timeout=PATIENCE_MS)
    assert await page.locator("iframe").get_attribute("sandbox") == "allow-popups"
