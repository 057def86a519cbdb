"""A headless Chromium at the console of a running server, and a screenshot of each page for people to look at."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect

from mainspring.console import STATIC
from tests.fixtures_server import Server, StartServer
from tests.needs import missing, need_program

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)

Open = Callable[..., Awaitable[Page]]


@pytest.fixture
def server_settings() -> tuple[str, ...]:
    """What the server of a module's tests is started with; a module may have its own."""
    return ()


@pytest.fixture
def server(start_server: StartServer, server_settings: tuple[str, ...]) -> Server:
    if not (STATIC / "index.html").is_file():
        missing("needs the built console (install without MAINSPRING_CONSOLE=skip)")
    return start_server(settings=server_settings)


@pytest.fixture
async def open_page(server: Server) -> AsyncIterator[Open]:
    """Opens a path of the console, signed in by the one-click token. At the end no page may have thrown an error, asked
    another host, or met a 5xx."""
    program = need_program("chromium", "chromium-browser", "google-chrome")
    faults: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))

        async def open_page(path: str = "", *, width: int = 1280, height: int = 900, scheme: str = "light") -> Page:
            context = await browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=scheme,  # type: ignore[arg-type]
                permissions=["clipboard-read", "clipboard-write"],
            )
            page = await context.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.on("pageerror", lambda error: faults.append(f"{path}: {error}"))
            page.on("request", lambda request: _same_host(request.url, faults))
            page.on("response", lambda answer: answer.status >= 500 and faults.append(f"{answer.status} {answer.url}"))
            separator = "&" if "?" in path else "?"
            await page.goto(f"{server.address}{path}{separator}token={server.token}")
            await page.get_by_label("Mainspring, home").wait_for()
            return page

        yield open_page
        await browser.close()
    assert faults == []


def _same_host(url: str, faults: list[str]) -> None:
    if not url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")):
        faults.append(f"asked another host: {url}")


@pytest.fixture
def shoot(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Page, str], Awaitable[None]]:
    """Keeps a screenshot, in the folder that MAINSPRING_SCREENSHOTS names or the test's own."""
    folder = Path(os.environ.get("MAINSPRING_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)

    async def shoot(page: Page, name: str) -> None:
        await page.screenshot(path=folder / f"{name}.png", full_page=True)

    return shoot
