"""Refuses a command whose system's libraries are not installed, with what brings them."""

import click

from mainspring.core.manifest import Manifest


def must_be_installed(system: Manifest) -> None:
    """Raises `ClickException` where the extra of `system` is missing."""
    if missing := system.missing_extra():
        raise click.ClickException(missing)
