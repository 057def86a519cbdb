"""Refuses a command whose system's libraries are not installed, with what brings them."""

import click

from mainspring.core.manifest import manifests


def must_be_installed(system: str) -> None:
    """Raises `ClickException` where the extra of `system` is missing."""
    if missing := manifests()[system].missing_extra():
        raise click.ClickException(missing)
