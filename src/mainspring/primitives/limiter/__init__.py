"""Who may do how much, decided in microseconds: `Limiter` on any store, `MemoryLimiter` for one process.

Strict: no policy ever admits more than its algorithm's bound, and a hit on several limits charges all of them or none.
"""

from mainspring.primitives.limiter.buckets import LeakyBucket, TokenBucket
from mainspring.primitives.limiter.concurrency import Concurrency
from mainspring.primitives.limiter.decision import Decision
from mainspring.primitives.limiter.limiter import Limiter
from mainspring.primitives.limiter.memory import MemoryLimiter, MemoryStore
from mainspring.primitives.limiter.model import BadCost, BadKey, BadPolicy, QuotaExceeded, UnknownPolicy
from mainspring.primitives.limiter.penalties import Penalty
from mainspring.primitives.limiter.policies import Policy
from mainspring.primitives.limiter.quota import Quota
from mainspring.primitives.limiter.replay import replay_log
from mainspring.primitives.limiter.windows import FixedWindow, SlidingLog, SlidingWindow

__all__ = [
    "BadCost",
    "BadKey",
    "BadPolicy",
    "Concurrency",
    "Decision",
    "FixedWindow",
    "LeakyBucket",
    "Limiter",
    "MemoryLimiter",
    "MemoryStore",
    "Penalty",
    "Policy",
    "Quota",
    "QuotaExceeded",
    "SlidingLog",
    "SlidingWindow",
    "TokenBucket",
    "UnknownPolicy",
    "replay_log",
]
