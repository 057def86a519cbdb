"""Fixtures of every test: the ports on both their sides, and a server as a stranger would start it."""

pytest_plugins = ["tests.fixtures_database", "tests.fixtures_cache", "tests.fixtures_server"]
