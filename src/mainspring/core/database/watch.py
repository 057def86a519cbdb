"""Who is to be woken when events of a topic have been committed."""

import logging
from collections.abc import Callable, Iterable

logger = logging.getLogger(__name__)

EVERY_TOPIC = ""


class Watchers:
    """Callbacks by topic, called on the event loop. They may be called without cause, and must not block."""

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Callable[[], None]]] = {}

    def watch(self, topic: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls `callback` after each commit that emitted to `topic` (or `EVERY_TOPIC`); gives a function that ends this."""
        self._callbacks.setdefault(topic, []).append(callback)

        def unwatch() -> None:
            callbacks = self._callbacks.get(topic, [])
            if callback in callbacks:
                callbacks.remove(callback)
            if not callbacks:
                self._callbacks.pop(topic, None)

        return unwatch

    def wake(self, topics: Iterable[str]) -> None:
        for topic in (*topics, EVERY_TOPIC):
            for callback in tuple(self._callbacks.get(topic, ())):
                call_hook(callback)

    def wake_all(self) -> None:
        """For a listener that may have missed some."""
        self.wake(tuple(self._callbacks))


def call_hook(hook: Callable[[], None]) -> None:
    """Calls what waits for a commit: the commit has happened, so its failure is logged and stops nobody."""
    try:
        hook()
    except Exception:
        logger.exception("a hook after commit failed")
