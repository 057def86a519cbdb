"""The child process that renders pastes: started by the first text, one text at a time, killed when it takes too long.

A text that cannot be rendered in time, or is too large, or finds the queue full, is shown as plain lines instead: a view
never fails because of its colours.
"""

import asyncio
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from mainspring.core.telemetry import Metrics
from mainspring.social.links.paste_render import Job, plain

TEXT_BYTES_MAX = 512 << 10
WAITING_MAX = 32
PATIENCE_S = 5.0
IDLE_S = 120.0
COMMAND = (sys.executable, "-m", "mainspring.social.links.paste_render")

log = logging.getLogger(__name__)


class Renderer:
    """`await render(format, language, text)` gives HTML. `patience_s` is how long a text may take, start included."""

    def __init__(
        self, *, patience_s: float = PATIENCE_S, command: Sequence[str] = COMMAND, metrics: Metrics | None = None
    ) -> None:
        self._patience_s, self._command = patience_s, command
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._child: asyncio.subprocess.Process | None = None
        self._retirement: asyncio.TimerHandle | None = None
        renders = (metrics or Metrics()).counter("links_paste_renders", "Pastes made into HTML", ("outcome",))
        self._done, self._failed, self._skipped = (renders.labels(word) for word in ("done", "failed", "skipped"))

    async def render(self, format: str, language: str, text: str) -> str:
        """HTML of `text`, safe to show."""
        if format == "plain" or (format == "code" and not language):
            return plain(text)
        if len(text) > TEXT_BYTES_MAX or self._waiting >= WAITING_MAX:
            self._skipped.inc()
            return plain(text)
        self._waiting += 1
        try:
            async with self._turn:
                html = await self._ask(Job(format, language, text))
        except (TimeoutError, OSError, EOFError) as error:
            self._failed.inc()
            log.warning("a paste of %d letters was not rendered: %s", len(text), type(error).__name__)
            return plain(text)
        finally:
            self._waiting -= 1
        self._done.inc()
        return html

    async def stop(self) -> None:
        await self._end()

    async def _ask(self, job: Job) -> str:
        if self._retirement is not None:
            self._retirement.cancel()
        try:
            async with asyncio.timeout(self._patience_s):
                html = await self._exchange(msgspec.msgpack.encode(job))
        except BaseException:
            # An answer that nobody waited for would be taken for the next one's.
            await self._end()
            raise
        self._retirement = asyncio.get_running_loop().call_later(IDLE_S, self._retire)
        return html

    async def _exchange(self, request: bytes) -> str:
        if self._child is None or self._child.returncode is not None:
            self._child = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=64 << 20
            )
        source, sink = self._child.stdout, self._child.stdin
        assert source is not None and sink is not None, "both were asked for"
        sink.write(len(request).to_bytes(4, "big") + request)
        await sink.drain()
        length = int.from_bytes(await source.readexactly(4), "big")
        return msgspec.msgpack.decode(await source.readexactly(length), type=str)

    def _retire(self) -> None:
        if self._child is not None and not self._turn.locked():
            self._child.kill()

    async def _end(self) -> None:
        if self._retirement is not None:
            self._retirement.cancel()
        child, self._child = self._child, None
        if child is not None:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
