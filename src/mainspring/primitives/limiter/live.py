"""Decisions as they are made, for a console: four times a second how many, and a sample of them."""

import asyncio

import msgspec

from mainspring.core.http import Channel
from mainspring.primitives.limiter.decision import Decision
from mainspring.primitives.limiter.limiter import Limiter
from mainspring.wire.websocket import open_channel

EVERY_S = 0.25
SAMPLE_MAX = 20
VIEWERS_MAX = 16
"""Each costs every decision some hundred nanoseconds; whoever comes later is told to try again (1013)."""

KEY_LETTERS_SHOWN = 128
_TRY_LATER = 1013


class Seen(msgspec.Struct, frozen=True):
    """One decision of the sample."""

    policy: str
    key: list[str]
    allowed: bool
    cost: int
    remaining: int
    violated: list[str]
    shadowed: list[str]
    store: str


class Moment(msgspec.Struct, frozen=True):
    """What was decided since the message before: how many, and the first twenty."""

    allowed: int
    refused: int
    sample: list[Seen]


class Window:
    """Collects decisions between two messages; with `policy` only those of one."""

    def __init__(self, policy: str = "") -> None:
        self._policy = policy
        self._allowed = 0
        self._refused = 0
        self._sample: list[Decision] = []

    def __call__(self, decision: Decision) -> None:
        if self._policy and decision.policy != self._policy:
            return
        if decision.allowed:
            self._allowed += 1
        else:
            self._refused += 1
        if len(self._sample) < SAMPLE_MAX:
            self._sample.append(decision)

    def take(self) -> Moment:
        """What was collected, which is then forgotten."""
        moment = Moment(self._allowed, self._refused, [_seen(decision) for decision in self._sample])
        self._allowed = self._refused = 0
        self._sample = []
        return moment


async def watch(channel: Channel, limiter: Limiter, policy: str) -> None:
    """Serves one viewer until it leaves. A quiet limiter sends nothing but the pings of the channel."""
    async with open_channel(channel) as socket:
        if len(limiter.watchers) >= VIEWERS_MAX:
            await socket.close(_TRY_LATER, "too many viewers")
            return
        window = Window(policy)
        limiter.watchers.append(window)
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                moment = window.take()
                if moment.allowed or moment.refused:
                    socket.send_json(moment)
        finally:
            limiter.watchers.remove(window)


def _seen(decision: Decision) -> Seen:
    keys = (decision.keys,) if isinstance(decision.keys, str) else decision.keys
    return Seen(
        decision.policy,
        [key[:KEY_LETTERS_SHOWN].encode("utf-8", "replace").decode() for key in keys],
        decision.allowed,
        decision.cost,
        decision.remaining,
        list(decision.violated),
        list(decision.shadowed),
        decision.store,
    )
