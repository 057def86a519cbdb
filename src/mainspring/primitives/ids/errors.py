"""What can go wrong with an id, named for what the caller can do about it."""

from collections.abc import Iterable
from typing import Any

from mainspring.core.problems import Problem, Unavailable


class NotAnId(Problem, ValueError):
    """The text is no id of any kind known here: do not retry, show the reader what was typed."""

    status, type, title = 404, "ids/not-an-id", "This is not an id"


class BadCount(Problem, ValueError):
    status, type, title = 422, "ids/bad-count", "The count is outside what may be asked for"

    def __init__(self, count: object, most: int) -> None:
        super().__init__(f"count must be a whole number from 1 to {most}", pointer="/count", maximum=most)
        self.count = count


class UnknownKind(Problem, ValueError):
    status, type, title = 422, "ids/unknown-kind", "There is no such kind of id"

    def __init__(self, kind: str, kinds: Iterable[str]) -> None:
        kinds = list(kinds)
        super().__init__(f"{kind[:64]!r} is not one of {', '.join(kinds)}", pointer="/kind", kinds=kinds)


class BadPrefix(Problem, ValueError):
    status, type, title = (
        422,
        "ids/bad-prefix",
        "A TypeID prefix is at most 63 letters a-z and _, with a letter at both ends",
    )


class BadName(Problem, ValueError):
    status, type, title = 422, "ids/bad-name", "A sequence's name is 1 to 100 of the letters a-z, 0-9, '.', '_' and '-'"


class SequenceKind(Problem):
    """A name counts either in cached blocks or without gaps; the first use decides."""

    status, type, title = 409, "ids/sequence-kind", "This sequence is of the other kind"


class LayoutTooNarrow(Problem):
    status, type, title = 409, "ids/layout-too-narrow", "This process's worker id does not fit into that layout"

    def __init__(self, layout: str, worker: int, bits: int) -> None:
        detail = f"worker {worker} does not fit into the {bits} bits of {layout}: set ids.layout or ids.worker"
        super().__init__(detail, pointer="/kind")


class Refused(Unavailable):
    """No id can be minted at this moment; nothing was minted."""


class TooFast(Refused):
    """More ids were asked for than the sequence bits allow: wait `retry_after_ms`."""

    status, type, title = 429, "ids/too-fast", "More ids than this minter's sequence bits allow"

    def __init__(self, retry_after_ms: int) -> None:
        super().__init__(
            f"wait {retry_after_ms} ms, or spread the load over more workers", retry_after_ms=retry_after_ms
        )
        self.retry_after_ms = retry_after_ms


class ClockBehind(Refused):
    """The wall clock was set back: minting goes on when it has come within 5 s of the last id again."""

    type, title = "ids/clock-behind", "The clock is too far behind the last id"

    def __init__(self, behind_ms: int) -> None:
        super().__init__(f"the wall clock is {behind_ms} ms behind the last id", behind_ms=behind_ms)
        self.behind_ms = behind_ms


class NotReserved(Refused):
    """The reserved range of milliseconds is used up or was never taken: its renewal is failing, or this is a fork."""

    type, title = "ids/not-reserved", "No milliseconds are reserved for this minter"


class NoWorkerLeft(Refused):
    """Every worker id is held; `holders` says by whom."""

    type, title = "ids/no-worker-left", "Every worker id is taken"

    def __init__(self, holders: list[dict[str, Any]]) -> None:
        super().__init__(f"all {len(holders)} worker ids are taken", retry_after_s=5, holders=holders)
        self.holders = holders
