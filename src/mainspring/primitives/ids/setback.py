"""What a minter does when its clock is set: a pure run in virtual time, for the console's slider.

It drives the real `Minter` with renewals once a second, as the service does, and tells step by step what the clock showed,
how far the ids had come, and why none could be minted where that was so.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from .chance import Chance
from .errors import Refused
from .layouts import MAINSPRING
from .lease import Terms
from .minter import Minter

START_MS = 1_767_225_600_000
STEPS = 200


class Setback(msgspec.Struct, frozen=True):
    """One run: the clock is set by `set_ms` (negative: back) after `set_at_ms`; `ids_per_ms` are wanted all along."""

    set_ms: Annotated[int, Meta(ge=-600_000, le=600_000, description="By how much the clock is set; negative: back")]
    set_at_ms: Annotated[int, Meta(ge=0, le=20_000, description="When it is set, after the start")] = 2_000
    length_ms: Annotated[int, Meta(ge=100, le=20_000, description="How long the run lasts")] = 10_000
    ids_per_ms: Annotated[int, Meta(ge=1, le=5_000, description="How many ids are wanted each millisecond")] = 4


class Step(msgspec.Struct, frozen=True):
    """One step of the run. Times are milliseconds after its start; `last_ms` is that of the last id."""

    true_ms: int
    wall_ms: int
    last_ms: int
    reserved_ms: int
    minted: int
    refused: str | None


class Outcome(msgspec.Struct, frozen=True):
    """All steps; `distinct` and `increasing` are what was found by looking at every id."""

    steps: list[Step]
    minted: int
    refused: int
    distinct: bool
    increasing: bool


class _Hand:
    """A clock that shows what it is set to."""

    def __init__(self, ms: int) -> None:
        self.ms = ms

    def wall_ns(self) -> int:
        return self.ms * 1_000_000

    def mono_ns(self) -> int:
        return self.ms * 1_000_000

    async def sleep(self, seconds: float) -> None:
        raise RuntimeError("nothing waits for this clock")


def play(setback: Setback, terms: Terms, random: Chance) -> Outcome:
    """Runs it: at most 200 steps, whatever its length."""
    hand = _Hand(START_MS)
    minter = Minter(MAINSPRING, 7, hand, START_MS - 1, START_MS + terms.reserve_ms, chance=random)
    step_ms = max(1, setback.length_ms // STEPS)
    wanted = setback.ids_per_ms * step_ms
    reserved_ms = START_MS + terms.reserve_ms
    steps, minted, refused, last, increasing = [], 0, 0, -1, True
    next_renewal_ms = terms.renew_ms
    for true_ms in range(0, setback.length_ms, step_ms):
        hand.ms = START_MS + true_ms + (setback.set_ms if true_ms >= setback.set_at_ms else 0)
        if true_ms >= next_renewal_ms:
            next_renewal_ms += terms.renew_ms
            reserved_ms = max(reserved_ms, hand.ms + terms.reserve_ms)
            minter.extend(reserved_ms)
        why, count = None, 0
        try:
            for first, size in minter.runs(wanted):
                increasing = increasing and first > last
                last = first + size - 1
                count += size
        except Refused as error:
            why = error.type
            refused += wanted
        minted += count
        last_ms = MAINSPRING.at_ms(last) - START_MS if last >= 0 else 0
        steps.append(Step(true_ms, hand.ms - START_MS, last_ms, reserved_ms - START_MS, count, why))
    # Ids that only ever increase are distinct; the minter's own count agrees only if no run was counted twice.
    return Outcome(steps, minted, refused, increasing and minter.minted == minted, increasing)
