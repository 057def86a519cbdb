"""How long to wait before trying again: exponential, with full jitter.

After M. Brooker, "Exponential Backoff And Jitter" (2015): each wait is drawn evenly from below a ceiling that doubles, so
that the many who failed together do not come back together. The floor keeps an unlucky draw from becoming a busy loop.
"""

from random import Random


class Backoff:
    """The waits of one thing that keeps failing; `reset` when it works again.

    The n-th wait lies between a quarter of and the whole of `min(first_s * 2**n, most_s)`.
    """

    def __init__(self, first_s: float = 0.05, most_s: float = 30.0, random: Random | None = None) -> None:
        if not 0 < first_s <= most_s:
            raise ValueError("a backoff needs 0 < first_s <= most_s")
        self.failures = 0
        self._first_s, self._most_s = first_s, most_s
        self._random = random or Random()

    def next_s(self) -> float:
        """Counts one more failure and gives the seconds to wait."""
        # 2.0**1023 is the last power that a float holds.
        ceiling_s = min(self._first_s * 2.0 ** min(self.failures, 1023), self._most_s)
        self.failures += 1
        return ceiling_s * self._random.uniform(0.25, 1)

    def reset(self) -> None:
        """It worked: the next failure waits briefly again."""
        self.failures = 0
