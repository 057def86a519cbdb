"""Waking other nodes that share a PostgreSQL: LISTEN in a thread, NOTIFY soon after a commit.

A notice is only ever a hint: it may be lost, and what it speaks of may not be visible yet.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import psycopg

logger = logging.getLogger(__name__)

SEND_AFTER_S = 0.02
LOOK_UP_S = 0.5
"""How often the listening thread looks whether it is to stop."""

RECONNECT_AFTER_S = 1.0
CHANNEL = "SELECT 'mainspring_' || md5(current_schema())"
SEPARATOR = "\n"


class Notices:
    """`received(topics)` is called on the listening thread; with None when some may have been missed."""

    def __init__(
        self,
        connection_parameters: Mapping[str, Any],
        node: str,
        stopping: threading.Event,
        received: Callable[[list[str] | None], None],
    ) -> None:
        self._parameters = {**connection_parameters, "application_name": f"mainspring/{node}/listen"}
        self._node = node
        self._stopping = stopping
        self._received = received
        self._thread: threading.Thread | None = None
        self._unsent: set[str] = set()

    def listen(self) -> None:
        """Starts the listening thread where there is none yet."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="database-listen", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Waits for the thread, which ends soon after `stopping` is set."""
        if self._thread is not None:
            self._thread.join()

    def send_soon(
        self,
        topics: Iterable[str],
        loop: asyncio.AbstractEventLoop,
        run: Callable[[Callable[[psycopg.Connection[Any]], None]], None],
    ) -> None:
        """Sends one notice for all topics of the next moments, by a connection that `run` finds."""
        if not self._unsent:
            loop.call_later(SEND_AFTER_S, self._send, run)
        self._unsent.update(topics)

    def _send(self, run: Callable[[Callable[[psycopg.Connection[Any]], None]], None]) -> None:
        payload = SEPARATOR.join([self._node, *self._unsent])
        self._unsent = set()
        if len(payload) > 7000:  # the server takes less than 8000 bytes; without names it means all
            payload = self._node

        def work(raw: psycopg.Connection[Any]) -> None:
            raw.execute(f"SELECT pg_notify(({CHANNEL}), %s)", (payload,))

        run(work)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with psycopg.connect(autocommit=True, **self._parameters) as raw:
                    row = raw.execute(CHANNEL).fetchone()
                    assert row is not None
                    raw.execute(f'LISTEN "{row[0]}"'.encode())
                    self._received(None)
                    while not self._stopping.is_set():
                        for notice in raw.notifies(timeout=LOOK_UP_S):
                            self._receive(notice.payload)
            except psycopg.Error as error:
                logger.warning("listening for other nodes: %s", str(error).strip())
                self._stopping.wait(RECONNECT_AFTER_S)

    def _receive(self, payload: str) -> None:
        node, *topics = payload.split(SEPARATOR)
        if node != self._node:
            self._received(topics or None)
