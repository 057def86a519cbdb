"""Random bytes from the system in pools of 4 KiB, and what must be forgotten at a fork.

A call to `os.urandom` costs some 300 ns and a pooled word 20. A pool that two processes shared would give both the same
"random" bytes, so every pool is dropped in the child of a fork, as is everything else registered here.
"""

import os
from collections.abc import Callable
from struct import Struct
from typing import Protocol
from weakref import WeakSet

POOL_BYTES = 4096
_words = Struct(f">{POOL_BYTES // 8}Q").unpack


class Forgets(Protocol):
    """Holds something that a forked child must not share."""

    def forget(self) -> None:
        """Called in the child of a fork, before any other code of the child."""


# The interpreter keeps fork hooks for the life of the process and offers no way to take one back: one hook, and weak
# references to whoever lives.
_registered: WeakSet[Forgets] = WeakSet()


def forget_at_fork(holder: Forgets) -> None:
    """Has `holder.forget()` called in the child of every later fork, for as long as `holder` lives."""
    _registered.add(holder)


def _forget_all() -> None:
    for holder in list(_registered):
        holder.forget()


os.register_at_fork(after_in_child=_forget_all)


class Chance:
    """A pool of random bytes; `source(count)` refills it. `marked` is applied to each new pool of 4 KiB."""

    def __init__(
        self, source: Callable[[int], bytes] = os.urandom, marked: Callable[[bytes], bytes] | None = None
    ) -> None:
        self._source = source
        self._marked = marked
        self.words: list[int] = []
        forget_at_fork(self)

    def forget(self) -> None:
        self.words.clear()

    def word(self) -> int:
        """64 random bits. Hot loops pop from `words` themselves and come here when it is empty."""
        # `pop` is one step under the interpreter's lock: no two threads get the same word.
        while True:
            try:
                return self.words.pop()
            except IndexError:
                pool = self._source(POOL_BYTES)
                self.words.extend(_words(self._marked(pool) if self._marked else pool))

    def bits(self, count: int) -> int:
        """`count` random bits as a number."""
        value = 0
        for _ in range(0, count, 64):
            value = value << 64 | self.word()
        return value & (1 << count) - 1
