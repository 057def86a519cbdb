"""Codes handed out: the key generation service of one node.

A node leases numbers a thousand at a time, in one small transaction, and turns them into codes by itself, some in advance.
What it leased and did not use when it dies is skipped, never given out again.
"""

import asyncio
from collections import deque
from secrets import token_bytes

import sqlalchemy as sa

from mainspring.core.clock import Clock
from mainspring.core.database import insert
from mainspring.core.ports import Connection, Database
from mainspring.core.problems import Unavailable
from mainspring.primitives.ids import Ids
from mainspring.social.links import codes
from mainspring.social.links.domains import Domain
from mainspring.social.links.tables import lease, secret

_new = insert(lease).values(name=sa.bindparam("name"), next=sa.bindparam("count"))
LEASE = _new.on_conflict_do_update(
    index_elements=["name"], set_={"next": lease.c.next + _new.excluded["next"]}
).returning(lease.c.next)
PUT_SECRET = insert(secret).values(name=sa.bindparam("name"), value=sa.bindparam("value")).on_conflict_do_nothing()
GET_SECRET = sa.select(secret.c.value).where(secret.c.name == sa.bindparam("name"))

TRIES = 5
SPELT_AT_ONCE = 100
"""How many leased numbers are turned into codes together, which holds the loop for a quarter of a millisecond."""


class Issuer:
    """Gives codes that no other call, on any node, is given for the domain's strategy to collide with."""

    def __init__(
        self, database: Database, ids: Ids, clock: Clock, key: bytes, blocked: tuple[str, ...], lease: int = codes.LEASE
    ) -> None:
        self._database, self._ids, self._clock = database, ids, clock
        self._blocked = codes.blocker(blocked)
        self._lease_size = lease
        self._leased: dict[str, deque[int]] = {name: deque() for name in codes.ALPHABETS}
        self._spelt: dict[str, deque[str]] = {name: deque() for name in codes.ALPHABETS}
        self._leasing = asyncio.Lock()
        self._permutations = {
            name: codes.Permutation(key, len(alphabet) ** codes.LENGTH) for name, alphabet in codes.ALPHABETS.items()
        }

    def at_hand(self, domain: Domain, length: int | None) -> list[str] | None:
        """What `candidates` gives, where it need not wait: mostly. None where it must be asked."""
        if length is not None or domain.strategy != "counter" or (code := self._next(domain.alphabet)) is None:
            return None
        return [code]

    async def candidates(self, domain: Domain, target: str, length: int | None = None) -> list[str]:
        """The codes to try in order for one link: one that is unique by itself, or several drawn ones.

        A wanted `length` makes the strategy `random`, because the others have a length of their own.
        """
        strategy = "random" if length is not None else domain.strategy
        if strategy == "counter":
            while (code := self._next(domain.alphabet)) is None:
                await self._lease(domain.alphabet)
            return [code]
        alphabet = codes.ALPHABETS[domain.alphabet]
        if strategy == "snowflake":
            return codes.clean((codes.spell(self._ids.next(), alphabet, 11) for _ in range(TRIES)), self._blocked)
        sizes = [length or codes.LENGTH] * TRIES + [(length or codes.LENGTH) + 1]
        at_us, salt = self._clock.wall_ns() // 1000, token_bytes(8)
        if strategy == "hash":
            drawn = [codes.hashed(target, salt, at_us, n, alphabet, size) for n, size in enumerate(sizes)]
        else:
            drawn = [codes.drawn(token_bytes(40), alphabet, size) for size in sizes]
        return codes.clean(drawn, self._blocked)

    def _next(self, alphabet: str) -> str | None:
        """The code of the next leased number that spells nothing blocked; None where a lease is needed."""
        spelt, leased = self._spelt[alphabet], self._leased[alphabet]
        while leased and not spelt:
            some = [leased.popleft() for _ in range(min(SPELT_AT_ONCE, len(leased)))]
            letters = codes.ALPHABETS[alphabet]
            words = codes.spell_all(self._permutations[alphabet].of(some), letters, codes.LENGTH)
            spelt += codes.clean(words, self._blocked)
        return spelt.popleft() if spelt else None

    async def _lease(self, alphabet: str) -> None:
        async with self._leasing:
            if self._leased[alphabet]:
                return
            end = await self._database.write(_take_lease, f"counter:{alphabet}", self._lease_size)
            size = self._permutations[alphabet].size
            if end > size:
                raise Unavailable(
                    f"All {size} codes of this length are taken; use another strategy", retry_after_s=3600
                )
            self._leased[alphabet].extend(range(end - self._lease_size, end))


def _take_lease(connection: Connection, name: str, count: int) -> int:
    """The end of the range that now is the caller's; it begins `count` earlier."""
    return int(connection.execute(LEASE, {"name": name, "count": count}).scalar())


def deployment_key(connection: Connection, name: str) -> bytes:
    """A secret of this deployment, made by whichever node asks first."""
    connection.execute(PUT_SECRET, {"name": name, "value": token_bytes(32)})
    return bytes(connection.execute(GET_SECRET, {"name": name}).scalar())
