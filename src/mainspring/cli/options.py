"""Options that several commands share, and how they become a configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from mainspring.core.config import Config, ConfigError, load

F = TypeVar("F", bound=Callable[..., Any])


def with_config(command: F) -> F:
    """Adds `--data`, `--config` and `--set`, passed as `data`, `config_file` and `settings`."""
    for option in (
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set any key; may be repeated."),
        click.option("--config", "config_file", type=click.Path(dir_okay=False, path_type=Path), help="A TOML file."),
        click.option("--data", type=click.Path(file_okay=False), help="Folder for everything that is kept."),
    ):
        command = option(command)
    return command


def read(config_file: Path | None, settings: tuple[str, ...], **arguments: Any) -> Config:
    """The configuration, or a usage error that says which key is wrong."""
    try:
        return load(config_file, settings=settings, **arguments)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
