"""How a process comes by milliseconds of its own: ranges, not leases. Sans I/O, so that the simulator runs this very code.

The table has one row per worker id: who holds it, a fence that grows with every taking, and `reserved_ms`, up to which
milliseconds of this worker were ever handed out. Taking a worker gives the range above the old `reserved_ms`; renewing it
with the right fence raises `reserved_ms` and gives that much more. `reserved_ms` never falls while the row is held, so no
millisecond of a worker is handed out twice: whatever clocks say, whoever still believes to be the holder.

Clocks only decide when a row counts as abandoned. A wrong clock takes a worker from its living holder, who then finds
its fence outdated, mints what is left of its range and takes another.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from .errors import NoWorkerLeft
from .minter import Minter


class Terms(msgspec.Struct, frozen=True):
    """What all processes of a deployment agree on. A renewal reserves `reserve_ms` from now."""

    worker_max: int = 1_023
    reserve_ms: int = 3_000
    renew_ms: int = 1_000
    free_after_ms: int = 30_000


class Worker(msgspec.Struct, frozen=True, cache_hash=True):
    """A row of the table. `holder` is None after a clean stop."""

    worker: int
    holder: str | None
    fence: int
    reserved_ms: int
    renewed_ms: int


class Take(msgspec.Struct, frozen=True):
    """Asks for a worker: `worker` where it is fixed, any free one otherwise. `now_ms` is the taker's own clock."""

    holder: str
    worker: int | None
    now_ms: int


class Renew(msgspec.Struct, frozen=True):
    worker: int
    fence: int
    now_ms: int


class Release(msgspec.Struct, frozen=True):
    """Gives a worker back: what follows `used_ms` is free again."""

    worker: int
    fence: int
    used_ms: int


class Granted(msgspec.Struct, frozen=True):
    """The milliseconds `(low_ms, high_ms]` of `worker` are the asker's. The range may be empty until time has passed."""

    worker: int
    fence: int
    low_ms: int
    high_ms: int


class Renewed(msgspec.Struct, frozen=True):
    """The range goes on up to `high_ms`."""

    high_ms: int


class Lost(msgspec.Struct, frozen=True):
    """Somebody else has taken this worker."""


class NoneLeft(msgspec.Struct, frozen=True):
    """Every worker is held, by these."""

    workers: tuple[Worker, ...]


def choose(rows: Iterable[Worker], now_ms: int, terms: Terms) -> Worker | None:
    """The row to take over, or a new one that nobody ever held, or None where all are held.

    A row is free once it was released or not renewed for `free_after_ms`, and useless while its reserved milliseconds
    reach beyond what the taker may reserve now: a process with a clock far ahead left it behind.
    """
    held = 0
    used: set[int] = set()
    best: tuple[bool, bool, int, int] | None = None
    chosen: Worker | None = None
    for row in rows:
        if row.worker > terms.worker_max:
            continue
        used.add(row.worker)
        free = row.holder is None or row.renewed_ms <= now_ms - terms.free_after_ms
        if not free or row.reserved_ms >= now_ms + terms.reserve_ms:
            held += 1
            continue
        # First those whose milliseconds lie in the past, so that time does not run ahead; of these the released ones.
        rank = (row.reserved_ms > now_ms, row.holder is not None, row.reserved_ms, row.worker)
        if best is None or rank < best:
            best, chosen = rank, row
    unused = next((number for number in range(terms.worker_max + 1) if number not in used), None)
    if unused is not None and (best is None or best[0]):
        return Worker(unused, None, 0, 0, 0)
    return chosen


def taken(row: Worker, take: Take, terms: Terms) -> tuple[Worker, Granted]:
    """The row after the taking, and what the taker is told."""
    reserved_ms = max(row.reserved_ms, take.now_ms + terms.reserve_ms)
    after = Worker(row.worker, take.holder, row.fence + 1, reserved_ms, take.now_ms)
    return after, Granted(row.worker, after.fence, row.reserved_ms, reserved_ms)


def renewed(row: Worker | None, renew: Renew, terms: Terms) -> tuple[Worker, Renewed] | None:
    """The row after the renewal and the answer; None where another holder's fence stands there."""
    if row is None or row.fence != renew.fence or row.holder is None:
        return None
    # Never lower: an older renewal may arrive after a newer one, or the clock may have been set back in between.
    reserved_ms = max(row.reserved_ms, renew.now_ms + terms.reserve_ms)
    return Worker(row.worker, row.holder, row.fence, reserved_ms, renew.now_ms), Renewed(reserved_ms)


def released(row: Worker | None, release: Release) -> Worker | None:
    """The row after a clean stop; None where there is nothing to give back."""
    if row is None or row.fence != release.fence or row.holder is None:
        return None
    return Worker(row.worker, None, row.fence, min(row.reserved_ms, release.used_ms), row.renewed_ms)


Request = Take | Renew
Answer = Granted | Renewed | Lost | NoneLeft


class Lease:
    """One process's side: what to ask of the table, and what its answers mean for `minters`, one of each layout.

    Answers must be those to requests that this very process made: one meant for an earlier process of the same name
    would give its milliseconds out again.
    """

    def __init__(self, minter: Minter, terms: Terms, holder: str, worker: int | None = None) -> None:
        self.minters = [minter]
        self.terms = terms
        self.holder = holder
        self.granted: Granted | None = None
        self.lost = 0
        self._fixed = worker

    def request(self, now_ms: int) -> Request:
        """What to ask now: a renewal of what is held, or a worker."""
        if self.granted is None:
            return Take(self.holder, self._fixed, now_ms)
        return Renew(self.granted.worker, self.granted.fence, now_ms)

    def answered(self, request: Request, answer: Answer) -> None:
        """Takes in the answer to `request`. Raises `NoWorkerLeft`."""
        match answer:
            case Granted() if self.granted is None:
                self.granted = answer
                for minter in self.minters:
                    _grant(minter, answer)
            case Renewed(high_ms) if self.granted and self._meant(request):
                self.granted = replace(self.granted, high_ms=high_ms)
                for minter in self.minters:
                    minter.extend(high_ms)
            case Lost() if self._meant(request):
                # The rest of the range stays ours; it is minted while another worker is asked for.
                self.granted = None
                self.lost += 1
            case NoneLeft(workers):
                raise NoWorkerLeft([described(row) for row in workers])

    def add(self, minter: Minter) -> None:
        """Lets a minter of another layout mint in the same range."""
        self.minters.append(minter)
        if self.granted:
            _grant(minter, self.granted)

    def release(self) -> Release | None:
        """Ends minting; gives what to tell the table, where something is held."""
        used_ms = max(minter.close() for minter in self.minters)
        granted, self.granted = self.granted, None
        return Release(granted.worker, granted.fence, used_ms) if granted else None

    def _meant(self, request: Request) -> bool:
        mine = self.granted
        return bool(
            mine and isinstance(request, Renew) and (request.worker, request.fence) == (mine.worker, mine.fence)
        )


def _grant(minter: Minter, granted: Granted) -> None:
    if granted.worker <= minter.layout.worker_max:
        minter.grant(granted.worker, granted.low_ms, granted.high_ms)
    else:
        minter.close()


def described(row: Worker) -> dict[str, Any]:
    """A row as the problem details show it."""
    return {"worker": row.worker, "holder": row.holder, "reserved_ms": row.reserved_ms, "renewed_ms": row.renewed_ms}
