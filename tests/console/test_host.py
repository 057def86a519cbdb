"""The console's host: immutable assets, revalidated pages, nothing outside its folder, and a clear word without a build."""

from pathlib import Path

import pytest

from mainspring.console import console
from tests.asgi import call


@pytest.fixture
def built(tmp_path: Path) -> Path:
    (tmp_path / "static" / "assets").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "static" / "index.html").write_text("<!doctype html><title>Mainspring</title>")
    (tmp_path / "static" / "assets" / "index-a1b2.js").write_text("1")
    (tmp_path / "static" / "built-from").write_text("digest")
    return tmp_path / "static"


async def test_pages_and_assets_are_told_apart(built: Path) -> None:
    app = console(built)
    page = await call(app, "GET", "/links")
    assert (page.status, page.headers["cache-control"]) == (200, "no-cache")
    assert "Mainspring" in page.text
    asset = await call(app, "GET", "/assets/index-a1b2.js")
    assert "immutable" in asset.headers["cache-control"]
    again = await call(app, "GET", "/links", headers={"if-none-match": page.headers["etag"]})
    assert again.status == 304


@pytest.mark.parametrize(
    "path", ["/../secret", "/assets/../../secret", "/nothing.js", "/built-from.txt", "/assets/x.css"]
)
async def test_what_is_no_file_is_not_answered_with_a_page(built: Path, path: str) -> None:
    answer = await call(console(built), "GET", path)
    assert answer.status == 404 or "secret" not in answer.text


async def test_a_write_is_refused(built: Path) -> None:
    assert (await call(console(built), "POST", "/")).status == 405


async def test_without_a_build_it_says_how_to_get_one(tmp_path: Path) -> None:
    answer = await call(console(tmp_path), "GET", "/")
    assert answer.status == 503
    assert "MAINSPRING_CONSOLE" in answer.text
