"""The house's limiter is asked before a password is tried, so that nodes share one bound."""

import uuid
from pathlib import Path

import pytest

from mainspring.console.sign_ins import SignIns
from mainspring.core.accounts.model import SignInFailed, TooManyAttempts
from mainspring.core.application import Mainspring
from mainspring.core.config import Config
from tests.fixtures_database import PostgresServer


async def test_the_limiter_is_built_at_the_first_attempt_and_refuses_the_twenty_first(tmp_path: Path) -> None:
    async with Mainspring(["limiter"], Config(data=str(tmp_path))) as mainspring:
        mainspring.accounts.limit_sign_ins(SignIns(mainspring).allow)
        assert [one["state"] for one in mainspring.systems()] == ["idle"]
        with pytest.raises(SignInFailed):
            await mainspring.accounts.sign_in("lea", "wrong wrong wrong", "192.0.2.1")
        allow = SignIns(mainspring).allow
        assert [await allow("lea|192.0.2.1") for _ in range(20)] == [True] * 19 + [False]
        with pytest.raises(TooManyAttempts):
            await mainspring.accounts.sign_in("lea", "wrong wrong wrong", "192.0.2.1")


@pytest.mark.postgres
async def test_two_nodes_share_one_bound(postgres_server: PostgresServer, tmp_path: Path) -> None:
    schema = f"t_{uuid.uuid4().hex}"
    postgres_server.execute(f"CREATE SCHEMA {schema}")
    nodes = [
        Mainspring(
            ["limiter"],
            Config(
                data=str(tmp_path / name),
                database=postgres_server.dsn(schema),
                sections={"limiter": {"store": "sql", "deadline_ms": 10_000}},
            ),
        )
        for name in ("one", "two")
    ]
    try:
        async with nodes[0], nodes[1]:
            asked = [SignIns(node).allow for node in nodes]
            allowed = [await asked[number % 2]("lea|192.0.2.1") for number in range(25)]
    finally:
        postgres_server.execute(f"DROP SCHEMA {schema} CASCADE")
    assert allowed == [True] * 20 + [False] * 5
