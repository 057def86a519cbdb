"""Fixtures of every test: the ports on both their sides, and a server as a stranger would start it."""

from hypothesis import settings

pytest_plugins = ["tests.fixtures_database", "tests.fixtures_cache", "tests.fixtures_server"]

# A slow machine is not a wrong program.
settings.register_profile("mainspring", deadline=None)
settings.load_profile("mainspring")
