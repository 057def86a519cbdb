"""One line of a benchmark: ours and a peer's, alternated in the same run, as a ratio."""

import gc
import statistics
from collections.abc import Callable

import msgspec


class Comparison(msgspec.Struct):
    """Figures of both sides, in `unit`, and the ratio that the spec asks for (`target`, None where it names none)."""

    name: str
    ours: list[float]
    peer_name: str
    peer: list[float]
    unit: str
    higher_is_better: bool = True
    target: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better ours is at the median: above 1 we win. None where there is no peer."""
        if not self.peer or not self.ours:
            return None
        ours, peer = statistics.median(self.ours), statistics.median(self.peer)
        if not ours or not peer:
            return None
        return ours / peer if self.higher_is_better else peer / ours

    def to_json(self) -> dict[str, object]:
        return {**msgspec.to_builtins(self), "ratio": self.ratio}


def alternate(
    ours: Callable[[float], float], peer: Callable[[float], float], seconds: float, rounds: int = 3
) -> tuple[list[float], list[float]]:
    """Runs both callables in turn, `rounds` times each, for `seconds / rounds` a turn; each gives its rate."""
    figures: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for side, run in enumerate((ours, peer)):
            gc.collect()
            figures[side].append(run(seconds / rounds))
    return figures
