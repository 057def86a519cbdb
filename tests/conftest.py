"""Fixtures of every test: the ports on both their sides, and a server as a stranger would start it."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop
from hypothesis import settings

pytest_plugins = [
    "tests.fixtures_database",
    "tests.fixtures_cache",
    "tests.fixtures_server",
    "tests.fixtures_kafka",
    "tests.fixtures_java",
]

# A slow machine is not a wrong program.
settings.register_profile("mainspring", deadline=None)
settings.load_profile("mainspring")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the loop that the server runs on."""
    return {"uvloop": uvloop.new_event_loop}
