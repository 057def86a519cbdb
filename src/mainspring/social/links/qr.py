"""QR codes as SVG or PNG: any size, colours, rounded modules, and a logo in the middle.

The symbol comes from segno; it is drawn here. A logo is decoded and drawn anew as pixels, so that nothing of the uploaded
file reaches anybody; with one the error correction is the highest, because the logo covers what must then be guessed.
"""

import asyncio
import io
from base64 import b64encode
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mainspring.core.http import Response
from mainspring.core.problems import Invalid, Unavailable

ASKED_MAX = 32
"""How many codes may be drawn or wait for it, a tenth of a second each."""
LOGO_SHARE = 0.22
LOGO_PIXELS_MAX = 4_096 * 4_096
ROUND = 0.45
"""Radius of a rounded module, in modules."""
DRAWN_AT = 8
"""Pixels a module is first drawn with, before the picture is brought to its size."""

Colour = Annotated[str, Meta(pattern="^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$")]


class Design(msgspec.Struct, frozen=True):
    """`size` is the width of the symbol and `margin` of the space around it, in pixels; `correction` its redundancy."""

    format: Literal["svg", "png"] = "png"
    size: Annotated[int, Meta(ge=50, le=1000)] = 300
    margin: Annotated[int, Meta(ge=0, le=200)] = 16
    correction: Literal["L", "M", "Q", "H"] = "M"
    color: Colour = "#000000"
    background: Colour = "#ffffff"
    rounded: bool = False


def draw(text: str, design: Design, logo: bytes | None = None) -> bytes:
    """The code for `text`. Takes up to a tenth of a second: call it in a thread. Raises `Invalid` for a bad logo."""
    import segno

    correction = "H" if logo is not None else design.correction
    matrix = segno.make(text, error=correction, micro=False, boost_error=False).matrix
    picture = None if logo is None else _logo(logo, round(design.size * LOGO_SHARE))
    return _svg(matrix, design, picture) if design.format == "svg" else _png(matrix, design, picture)


class Drawings:
    """Codes as answers. One is drawn at a time, because anybody may ask for them and redirects want the processor too."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "qr codes")
        self._asked: set[Future[bytes]] = set()

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def answer(self, short_url: str, design: Design, logo: bytes | None = None) -> Response:
        """The code that leads to a short URL; who comes by it is counted as having come by it.

        Raises `Invalid` for a bad logo, and `Unavailable` where too many wait. Who does not wait any more makes room.
        """
        if len(self._asked) >= ASKED_MAX:
            raise Unavailable("Too many codes are waiting to be drawn")
        drawing = self._thread.submit(draw, f"{short_url}?qr=1", design, logo)
        self._asked.add(drawing)
        drawing.add_done_callback(self._asked.discard)
        picture = await asyncio.wrap_future(drawing)
        kind = "image/svg+xml" if design.format == "svg" else "image/png"
        return Response(200, picture, kind, [(b"cache-control", b"max-age=3600")])


Matrix = tuple[bytearray, ...]


def _svg(matrix: Matrix, design: Design, logo: bytes | None) -> bytes:
    whole, modules = design.size + 2 * design.margin, len(matrix)
    dark = [(x, y) for y, row in enumerate(matrix) for x, module in enumerate(row) if module]
    if design.rounded:
        shapes = "".join(
            f'<rect x="{x}" y="{y}" width="1" height="1" rx="{0 if _in_finder(x, y, modules) else ROUND}"/>'
            for x, y in dark
        )
    else:
        shapes = f'<path d="{"".join(f"M{x} {y}h1v1h-1z" for x, y in dark)}"/>'
    picture = ""
    if logo is not None:
        side = modules * LOGO_SHARE
        place = (modules - side) / 2
        picture = (
            f'<image x="{place:.3f}" y="{place:.3f}" width="{side:.3f}" height="{side:.3f}" '
            f'href="data:image/png;base64,{b64encode(logo).decode()}"/>'
        )
    scale = design.size / modules
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="{whole}" viewBox="0 0 {whole} {whole}">'
        f'<rect width="{whole}" height="{whole}" fill="{_colour(design.background)}"/>'
        f'<g transform="translate({design.margin} {design.margin}) scale({scale:.6f})" fill="{_colour(design.color)}" '
        f'shape-rendering="{"auto" if design.rounded else "crispEdges"}">{shapes}{picture}</g></svg>'
    ).encode()


def _png(matrix: Matrix, design: Design, logo: bytes | None) -> bytes:
    from PIL import Image, ImageDraw

    modules = len(matrix)
    symbol = Image.new("RGB", (modules * DRAWN_AT, modules * DRAWN_AT), _colour(design.background))
    pen, radius = ImageDraw.Draw(symbol), round(DRAWN_AT * ROUND)
    for y, row in enumerate(matrix):
        for x, module in enumerate(row):
            if module:
                box = (x * DRAWN_AT, y * DRAWN_AT, (x + 1) * DRAWN_AT - 1, (y + 1) * DRAWN_AT - 1)
                soft = design.rounded and not _in_finder(x, y, modules)
                pen.rounded_rectangle(box, radius if soft else 0, fill=_colour(design.color))
    symbol = symbol.resize((design.size, design.size), Image.Resampling.LANCZOS)
    whole = Image.new("RGB", (design.size + 2 * design.margin,) * 2, _colour(design.background))
    whole.paste(symbol, (design.margin, design.margin))
    if logo is not None:
        picture = Image.open(io.BytesIO(logo))
        place = design.margin + (design.size - picture.width) // 2
        whole.paste(picture, (place, place), picture)
    out = io.BytesIO()
    whole.save(out, "PNG", optimize=True)
    return out.getvalue()


def _logo(body: bytes, side: int) -> bytes:
    """The uploaded picture as a PNG of `side` pixels on white, whatever it was."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(body), formats=("PNG", "JPEG", "WEBP", "GIF")) as picture:
            if picture.width * picture.height > LOGO_PIXELS_MAX:
                raise Invalid(f"A logo has at most {LOGO_PIXELS_MAX:,} pixels", pointer="/body")
            drawn = picture.convert("RGBA")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise Invalid("A logo is a PNG, JPEG, WebP or GIF picture", pointer="/body") from None
    drawn.thumbnail((side - 4, side - 4))
    plate = Image.new("RGBA", (side, side), "#ffffff")
    plate.alpha_composite(drawn, ((side - drawn.width) // 2, (side - drawn.height) // 2))
    out = io.BytesIO()
    plate.save(out, "PNG")
    return out.getvalue()


def _in_finder(x: int, y: int, modules: int) -> bool:
    """Whether a module belongs to one of the three corners by which readers find the code; those stay square."""
    return ((x < 7 or x >= modules - 7) and y < 7) or (x < 7 and y >= modules - 7)


def _colour(text: str) -> str:
    return "#" + text.lstrip("#")
