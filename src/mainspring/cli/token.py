"""`token`: API tokens from the machine itself, whether the server runs or not."""

import asyncio
import json
from pathlib import Path
from typing import Any

import click

from .options import read, with_config


@click.group()
def token() -> None:
    """Create and revoke API tokens.

    \b
    mainspring token create links
    mainspring token create links --json
    mainspring token revoke 1234
    """


@token.command()
@click.argument("system")
@with_config
@click.option("--name", default="", help="What it is for, for the list of tokens.")
@click.option("--json", "as_json", is_flag=True, help="Print an object with `token` in it.")
def create(
    system: str, data: str | None, config_file: Path | None, settings: tuple[str, ...], name: str, as_json: bool
) -> None:
    """Make a token with every scope of SYSTEM, in the shape that the clients of its field expect. It is shown this once."""
    made = _do(read(config_file, settings, data=data), "token.create", system=system, name=name)
    click.echo(json.dumps(made) if as_json else made["token"])


@token.command()
@click.argument("token_id")
@with_config
def revoke(token_id: str, data: str | None, config_file: Path | None, settings: tuple[str, ...]) -> None:
    """Refuse the token of this id (as `create --json` gave it) from now on."""
    _do(read(config_file, settings, data=data), "token.revoke", id=token_id)
    click.echo(f"revoked {token_id}", err=True)


def _do(config: Any, action: str, **arguments: Any) -> dict[str, Any]:
    """Asks the server that owns the data folder; without one, does it here."""
    from mainspring.core.application import CannotStart, Mainspring
    from mainspring.core.data import ControlError, Unreachable, ask
    from mainspring.core.manifest import UnknownSystem
    from mainspring.core.problems import Problem

    async def here() -> dict[str, Any]:
        async with Mainspring([], config) as mainspring:
            done: dict[str, Any] = await mainspring.actions[action](arguments)
            return done

    try:
        return dict(ask(Path(config.data), action, **arguments) or {})
    except Unreachable:
        pass  # no server owns the folder: this process does
    except ControlError as refusal:
        raise click.ClickException(str(refusal)) from None
    try:
        return asyncio.run(here())
    except (CannotStart, UnknownSystem, Problem) as error:
        raise click.ClickException(str(error)) from None
