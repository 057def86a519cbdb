"""Passwords as argon2id hashes (RFC 9106), computed in two threads at most.

The parameters are OWASP's first choice (Password Storage Cheat Sheet, 2024) and stand in each stored hash; one made with
others is replaced at the next sign-in. A name that does not exist costs the same time as one that does.
"""

import asyncio
import secrets
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

import msgspec

from mainspring.core.problems import Unavailable
from mainspring.core.telemetry import Metrics

P = ParamSpec("P")
T = TypeVar("T")

PARALLEL_MAX = 2
WAITING_MAX = 64
HASH_BYTES = 32
SALT_BYTES = 16


class Argon2(msgspec.Struct, frozen=True):
    memory_kib: int = 47_104
    passes: int = 1
    lanes: int = 1

    @property
    def prefix(self) -> str:
        """How a PHC string with these parameters begins."""
        return f"$argon2id$v=19$m={self.memory_kib},t={self.passes},p={self.lanes}$"


class Passwords:
    """Hashes and verifies; raises `Unavailable` where 64 others are waiting already."""

    def __init__(self, parameters: Argon2 | None = None, metrics: Metrics | None = None) -> None:
        self._parameters = parameters or Argon2()
        self._threads = ThreadPoolExecutor(PARALLEL_MAX, thread_name_prefix="argon2id")
        self._waiting = 0
        if metrics is not None:
            metrics.gauge("accounts_passwords_waiting", "Passwords being hashed", sample=lambda: self._waiting)

    async def hash(self, password: bytes) -> str:
        """The PHC string to store."""
        return await self._in_thread(self._hash, password)

    async def verify(self, password: bytes, stored: str | None) -> bool:
        """Whether `password` is the one; None, for somebody who does not exist, takes as long and is False."""
        correct = await self._in_thread(self._verify, password, stored or self._of_nobody())
        return correct and stored is not None

    def outdated(self, stored: str) -> bool:
        """Whether a hash was made with other parameters than today's."""
        return not stored.startswith(self._parameters.prefix)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._waiting >= WAITING_MAX:
            raise Unavailable("Too many are signing in right now", retry_after_s=2)
        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *args, **kwargs))
        future.add_done_callback(self._done)
        # A caller that goes away must not make room for another while its thread still computes.
        return await asyncio.shield(future)

    def _done(self, future: asyncio.Future[Any]) -> None:
        self._waiting -= 1
        if not future.cancelled():
            future.exception()

    def _hash(self, password: bytes) -> str:
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id  # 20 ms that most starts never need

        wanted = self._parameters
        return Argon2id(
            salt=secrets.token_bytes(SALT_BYTES),
            length=HASH_BYTES,
            iterations=wanted.passes,
            lanes=wanted.lanes,
            memory_cost=wanted.memory_kib,
        ).derive_phc_encoded(password)

    def _verify(self, password: bytes, stored: str) -> bool:
        from cryptography.exceptions import InvalidKey
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

        try:
            Argon2id.verify_phc_encoded(password, stored)
        except InvalidKey:
            return False
        return True

    def _of_nobody(self) -> str:
        salt, key = (b64encode(secrets.token_bytes(n)).decode().rstrip("=") for n in (SALT_BYTES, HASH_BYTES))
        return f"{self._parameters.prefix}{salt}${key}"
