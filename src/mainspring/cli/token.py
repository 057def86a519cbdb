"""`token`: API tokens from the machine itself, whether the server runs or not."""

import json
from pathlib import Path

import click

from .actions import do
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
    """Make a token with every scope of SYSTEM, in the shape that the clients of its field expect. It is shown this once.

    \b
    mainspring token create links
    mainspring token create objects --json      with access_key and secret_key
    """
    made = do(read(config_file, settings, data=data), "token.create", system=system, name=name)
    click.echo(json.dumps(made) if as_json else made["token"])


@token.command()
@click.argument("token_id", type=click.IntRange(1, (1 << 63) - 1))
@with_config
def revoke(token_id: int, data: str | None, config_file: Path | None, settings: tuple[str, ...]) -> None:
    """Refuse the token of this id (as `create --json` gave it) from now on.

    \b
    mainspring token revoke 252691957694857216
    """
    do(read(config_file, settings, data=data), "token.revoke", id=str(token_id))
    click.echo(f"revoked {token_id}", err=True)
