"""Attempts to sign in, limited for all nodes together by the house's own limiter.

Core counts on each node by itself; whoever is sent from node to node by a balancer would get that bound anew on each.
"""

from typing import TYPE_CHECKING

from mainspring.core.application import Mainspring

if TYPE_CHECKING:
    from mainspring.primitives.limiter import Limiter

POLICY = "accounts.sign-in"
LIMIT = "20/minute"
"""For a name from one network. Attempts that were right count here too, so it is wider than the bound of one node."""


class SignIns:
    """Asks the limiter, which is built at the first attempt."""

    def __init__(self, mainspring: Mainspring) -> None:
        self._mainspring = mainspring
        self._limiter: Limiter | None = None

    async def allow(self, key: str) -> bool:
        """Whether one more attempt is allowed for `key`, a name and a network."""
        if self._limiter is None:
            from mainspring.primitives.limiter import Limiter

            limiter = await self._mainspring.service(Limiter)
            limiter.define(POLICY, LIMIT)
            self._limiter = limiter
        return bool(await self._limiter.hit(POLICY, key))
