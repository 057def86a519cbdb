"""QR codes: an outside reader reads every kind back, and nothing of an uploaded logo reaches anybody."""

import asyncio
import io
import threading
from itertools import product

import pytest

from mainspring.core.problems import Invalid, Unavailable
from mainspring.social.links import qr
from mainspring.social.links.qr import Design, Drawings, draw
from tests.needs import need_module
from tests.social.links.conftest import Listener

TEXT = "https://s.example/abcdefg?qr=1"


def read_back(png: bytes) -> str:
    need_module("zxingcpp")
    import zxingcpp
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("L")
    # A reader sees a screen or a print, never a picture of 50 pixels.
    scale = max(1, 400 // picture.width)
    found = zxingcpp.read_barcodes(picture.resize((picture.width * scale, picture.height * scale)))
    return found[0].text if found else ""


def picture(kind: str = "PNG", size: tuple[int, int] = (200, 120)) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", size, "#aa2200").save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize(
    ("correction", "rounded", "size"), [*product("LMQH", (False, True), (50, 300)), ("M", True, 1000)]
)
def test_every_variant_can_be_read_back(correction: str, rounded: bool, size: int) -> None:
    design = Design(size=size, correction=correction, rounded=rounded)  # type: ignore[arg-type]
    assert read_back(draw(TEXT, design)) == TEXT


@pytest.mark.parametrize(("color", "background"), [("#003366", "#ffeecc"), ("0a0", "fff"), ("#FF0000", "#FFFFFF")])
def test_colours_are_what_was_asked_for(color: str, background: str) -> None:
    png = draw(TEXT, Design(color=color, background=background))
    assert read_back(png) == TEXT
    from PIL import Image

    corner = Image.open(io.BytesIO(png)).convert("RGB").getpixel((1, 1))
    full = (
        background.lstrip("#")
        if len(background.lstrip("#")) == 6
        else "".join(2 * one for one in background.lstrip("#"))
    )
    assert corner == tuple(bytes.fromhex(full))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_with_a_logo_in_its_middle_it_can_still_be_read(kind: str) -> None:
    assert read_back(draw(TEXT, Design(size=400), picture(kind))) == TEXT
    svg = draw(TEXT, Design(format="svg"), picture(kind)).decode()
    assert svg.count("<image") == 1 and "data:image/png;base64," in svg


@pytest.mark.parametrize("rounded", [False, True])
def test_an_svg_has_the_modules_of_the_png(rounded: bool) -> None:
    import segno

    svg = draw(TEXT, Design(format="svg", rounded=rounded, margin=0)).decode()
    dark = sum(map(sum, segno.make(TEXT, error="M", micro=False, boost_error=False).matrix))
    assert svg.count('width="1" height="1"' if rounded else "h1v1h-1z") == dark
    assert 'viewBox="0 0 300 300"' in svg


@pytest.mark.parametrize(
    "body",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        b"",
        b"GIF89a",
        picture()[:-40],
        b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
        picture(size=(8192, 4096)),
    ],
    ids=["svg with a script", "nothing", "a beginning", "cut off", "rubbish", "too many pixels"],
)
def test_what_is_no_picture_is_refused_and_never_passed_on(body: bytes) -> None:
    with pytest.raises(Invalid):
        draw(TEXT, Design(), body)


async def test_pictures_come_from_the_short_domain_and_from_the_api(listener: Listener) -> None:
    made = await listener.links.create("https://example.com/", alias="x")
    shown = await listener.visit("/x/qr-code?size=200&margin=8&errorCorrection=Q&color=%23123456&roundBlockSize=true")
    assert shown.headers["content-type"] == "image/png" and read_back(shown.body) == "http://127.0.0.1:8410/x?qr=1"
    svg = await listener.visit("/x/qr-code?format=svg")
    assert svg.headers["content-type"] == "image/svg+xml"
    assert (await listener.visit("/x/qr-code?size=49")).status == 422
    assert (await listener.visit("/x/qr-code?color=%22onload%3D")).status == 422
    assert (await listener.visit("/none/qr-code")).status == 404
    ours = await listener.api("GET", f"/links/{made.id}/qr?size=120")
    assert read_back(ours.body) == "http://127.0.0.1:8410/x?qr=1"
    logo = await listener.api("POST", f"/links/{made.id}/qr?size=400", body=picture())
    assert read_back(logo.body) == "http://127.0.0.1:8410/x?qr=1"
    assert (await listener.api("POST", f"/links/{made.id}/qr", body=b"<svg/>")).status == 422


async def test_who_finds_too_many_waiting_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    go, drawn = threading.Event(), list[int]()

    def slow(text: str, design: Design, logo: bytes | None) -> bytes:
        assert go.wait(30)
        drawn.append(design.size)
        return b"<svg/>"

    monkeypatch.setattr(qr, "draw", slow)
    monkeypatch.setattr(qr, "ASKED_MAX", 3)
    drawings = Drawings()
    asked = [asyncio.create_task(drawings.answer(TEXT, Design("svg", size))) for size in (100, 101, 102, 103)]
    with pytest.raises(Unavailable):
        await asked.pop()
    gone = asked.pop()
    gone.cancel()
    await asyncio.wait([gone])
    asked.append(asyncio.create_task(drawings.answer(TEXT, Design("svg", 104))))
    go.set()
    assert [(await one).status for one in asked] == [200] * 3 and drawn == [100, 101, 104]
    drawings.close()
