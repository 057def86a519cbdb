"""What an operator asks a cache first. Plain integers, so that counting costs an addition; a scrape reads them."""

from functools import partial

from mainspring.core.telemetry.metrics import Metrics


class Counts:
    __slots__ = ("drops", "errors", "hits", "lost_messages", "misses")

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.drops = 0
        """Values that were not kept: too large, or the server was away."""
        self.errors = 0
        """Calls that the server did not answer, in time or at all."""
        self.lost_messages = 0
        """Messages that subscribers lost because they were too far behind."""

    def lose_message(self) -> None:
        self.lost_messages += 1

    def report(self, metrics: Metrics, cache: str) -> None:
        """Shows the counts on /metrics under the label `cache`."""
        for name, help in (
            ("hits", "Reads that found a value"),
            ("misses", "Reads that found none"),
            ("drops", "Values that were not kept: too large, or the server was away"),
            ("errors", "Calls that the cache server did not answer in time"),
            ("lost_messages", "Messages that a subscriber lost because it was too far behind"),
        ):
            counter = metrics.counter(f"cache_{name}", help, ("cache",)).labels(cache)
            counter.follow(partial(getattr, self, name))
