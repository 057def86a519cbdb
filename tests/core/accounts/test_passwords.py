"""Argon2id in threads."""

import asyncio
import threading

import pytest

from mainspring.core.accounts.passwords import PARALLEL_MAX, WAITING_MAX, Argon2, Passwords
from mainspring.core.problems import Unavailable

from .conftest import QUICK


async def test_a_hash_accepts_its_password_and_no_other() -> None:
    passwords = Passwords(QUICK)
    stored = await passwords.hash(b"correct horse")
    assert stored.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert await passwords.verify(b"correct horse", stored)
    assert not await passwords.verify(b"Correct horse", stored)
    assert not await passwords.verify(b"", stored)
    assert stored != await passwords.hash(b"correct horse"), "each hash has a salt of its own"
    passwords.close()


async def test_a_hash_that_was_damaged_accepts_nothing() -> None:
    passwords = Passwords(QUICK)
    for stored in ("", "rubbish", "$argon2id$v=19$m=8,t=1,p=1$AAAA", "$2b$12$" + "a" * 53):
        assert not await passwords.verify(b"x", stored)
    passwords.close()


async def test_nobodys_password_is_verified_against_todays_parameters_and_never_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passwords, verified = Passwords(QUICK), []
    verify = passwords._verify

    def watched(password: bytes, stored: str) -> bool:
        verified.append(stored)
        return verify(password, stored)

    monkeypatch.setattr(passwords, "_verify", watched)
    assert not await passwords.verify(b"x", None)
    real = await passwords.hash(b"x")
    assert verified[0].startswith(QUICK.prefix) and len(verified[0]) == len(real)
    passwords.close()


async def test_a_hash_with_other_parameters_is_outdated_but_still_verified() -> None:
    old = await Passwords(QUICK).hash(b"x")
    stronger = Passwords(Argon2(memory_kib=16, passes=2))
    assert stronger.outdated(old) and await stronger.verify(b"x", old)
    assert not stronger.outdated(await stronger.hash(b"x"))
    stronger.close()


async def test_few_are_hashed_at_once_a_bounded_number_waits_and_the_rest_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passwords, gate, running = Passwords(QUICK), threading.Event(), threading.Semaphore(0)

    def blocked(password: bytes) -> str:
        running.release()
        assert gate.wait(30)
        return "hashed"

    monkeypatch.setattr(passwords, "_hash", blocked)
    waiting = [asyncio.create_task(passwords.hash(b"x")) for _ in range(WAITING_MAX)]
    try:
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await passwords.hash(b"x")
        waiting[-1].cancel()
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await passwords.hash(b"x")
        for _ in range(PARALLEL_MAX):
            assert await asyncio.to_thread(running.acquire, timeout=30)
        assert not running.acquire(blocking=False)
    finally:
        gate.set()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert done[:-1] == ["hashed"] * (WAITING_MAX - 1)
    assert await passwords.hash(b"x") == "hashed"
    passwords.close()


async def test_the_event_loop_runs_on_while_a_password_is_hashed() -> None:
    passwords = Passwords()
    thread_of_loop, threads = threading.get_ident(), []
    hash_here = passwords._hash
    passwords._hash = lambda password: (threads.append(threading.get_ident()), hash_here(password))[1]  # type: ignore[method-assign]
    stored = await passwords.hash(b"x")
    assert threads and thread_of_loop not in threads
    assert stored.startswith(Argon2().prefix)
    passwords.close()
