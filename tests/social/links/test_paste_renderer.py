"""The child that renders: in a process of its own, bounded in time, and never the reason why a paste is not shown."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

from mainspring.core.telemetry import Metrics
from mainspring.social.links import paste_renderer
from mainspring.social.links.paste_renderer import TEXT_BYTES_MAX, Renderer

PATIENCE_S = 60.0
PLAIN = '<pre class="paste"><code><span class="line" id="L1">x = 1</span>\n</code></pre>'

HANGS_ONCE = """
import os, sys, time
from pathlib import Path
flag = Path(sys.argv[1])
if not flag.exists():
    flag.touch()
    time.sleep(3600)
from mainspring.social.links.paste_render import serve
serve(sys.stdin.buffer, sys.stdout.buffer)
"""


async def test_code_and_markdown_come_back_as_html() -> None:
    renderer = Renderer(patience_s=PATIENCE_S)
    try:
        texts = await asyncio.gather(
            renderer.render("code", "python", "def f(): pass\n"),
            renderer.render("markdown", "", "*a*"),
            renderer.render("code", "no-such-language", "x = 1"),
            renderer.render("plain", "", "x = 1"),
            renderer.render("code", "", "x = 1"),
        )
    finally:
        await renderer.stop()
    assert '<span class="k">def</span>' in texts[0]
    assert texts[1] == '<div class="paste"><p><em>a</em></p>\n</div>'
    assert texts[2] == texts[3] == texts[4] == PLAIN


async def test_a_text_that_takes_too_long_is_shown_plain_and_the_next_one_is_not(tmp_path: Path) -> None:
    metrics = Metrics()
    command = (sys.executable, "-c", HANGS_ONCE, str(tmp_path / "flag"))
    renderer = Renderer(patience_s=0.2, command=command, metrics=metrics)
    try:
        while not (tmp_path / "flag").exists():  # a slow machine may not even have started it in that time
            assert await renderer.render("code", "python", "x = 1") == PLAIN
            renderer._patience_s *= 2
        renderer._patience_s = PATIENCE_S
        assert '<span class="n">x</span>' in await renderer.render("code", "python", "x = 1")
    finally:
        await renderer.stop()
    told = metrics.exposition().decode()
    assert 'links_paste_renders_total{outcome="done"} 1' in told
    assert re.search(r'links_paste_renders_total{outcome="failed"} [1-9]', told)


async def test_a_child_that_was_killed_is_replaced() -> None:
    renderer = Renderer(patience_s=PATIENCE_S)
    try:
        await renderer.render("markdown", "", "*a*")
        assert renderer._child is not None
        first = renderer._child.pid
        os.kill(first, signal.SIGKILL)
        await renderer._child.wait()
        assert "<em>a</em>" in await renderer.render("markdown", "", "*a*")
        assert renderer._child.pid != first
    finally:
        await renderer.stop()
    assert renderer._child is None


async def test_without_a_child_everything_is_plain() -> None:
    renderer = Renderer(command=("/there/is/no/such/program",))
    assert await renderer.render("code", "python", "x = 1") == PLAIN


async def test_what_is_too_large_or_finds_too_many_waiting_is_plain(tmp_path: Path) -> None:
    renderer = Renderer(patience_s=PATIENCE_S, command=(sys.executable, "-c", HANGS_ONCE, str(tmp_path / "flag")))
    waiting = [
        asyncio.ensure_future(renderer.render("code", "python", "x = 1")) for _ in range(paste_renderer.WAITING_MAX)
    ]
    try:
        await asyncio.sleep(0)
        assert await renderer.render("code", "python", "x = 1") == PLAIN
        assert "<em>" not in await renderer.render("markdown", "", "*a*" * TEXT_BYTES_MAX)
    finally:
        for one in waiting:
            one.cancel()
        await asyncio.wait(waiting)
        await renderer.stop()
