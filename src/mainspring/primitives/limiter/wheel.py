"""A timing wheel: finds states that mean nothing any more, a few at a time, without looking at the others.

Varghese and Lauck (1987), one wheel of 1,024 slots. A key is put in the slot of its expiry when it is new; when its slot
comes round, whoever owns the state says whether it has expired since or was prolonged, in which case it is put in again.
So a hit on a known key costs nothing here, and each key is looked at about once in its life.
"""

from typing import Generic, TypeVar

SLOTS = 1024
Place = TypeVar("Place")


class Wheel(Generic[Place]):
    """Keys by expiry. `horizon_ns` is how far ahead an expiry usually lies; later ones are looked at early, and again."""

    __slots__ = ("_hand", "_ready", "_slots", "_width_ns")

    def __init__(self, horizon_ns: int, now_ns: int) -> None:
        self._width_ns = max(1_000_000, horizon_ns // (SLOTS - 2))
        self._slots: list[list[Place]] = [[] for _ in range(SLOTS)]
        self._hand = now_ns // self._width_ns
        self._ready: list[Place] = []

    def add(self, key: Place, expires_ns: int) -> None:
        slot = min(max(expires_ns // self._width_ns + 1, self._hand + 1), self._hand + SLOTS - 1)
        self._slots[slot % SLOTS].append(key)

    def take(self, now_ns: int, most: int) -> list[Place]:
        """Up to `most` keys whose slots have come round; they are out of the wheel now."""
        hand = now_ns // self._width_ns
        if hand - self._hand > SLOTS:
            self._hand = hand - SLOTS
        while not self._ready and self._hand < hand:
            self._hand += 1
            slot = self._hand % SLOTS
            self._ready, self._slots[slot] = self._slots[slot], []
        taken = self._ready[-most:]
        del self._ready[-most:]
        return taken

    def due_ns(self, now_ns: int) -> int:
        """When to call `take` again: the next slot's turn, or a millisecond from now while there is a backlog."""
        return (
            now_ns + 1_000_000
            if self._ready or self._hand < now_ns // self._width_ns
            else (self._hand + 1) * self._width_ns
        )
