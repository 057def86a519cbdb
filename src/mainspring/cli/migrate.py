"""`migrate`: the tables of every system at once, for a database that nodes share."""

import asyncio
import json
from pathlib import Path

import click

from .options import read, with_config


@click.command()
@with_config
@click.option("--json", "as_json", is_flag=True, help="Print the systems' names as a list.")
def migrate(data: str | None, config_file: Path | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Bring the database to this version, for every system.

    The embedded database does this by itself when a system is first used. On PostgreSQL run it once before the nodes of
    a new version start.

    \b
    mainspring migrate --set database=postgresql://…
    """
    from mainspring.core.application import CannotStart, Mainspring
    from mainspring.core.problems import Problem

    config = read(config_file, settings, data=data)

    async def run() -> list[str]:
        async with Mainspring([], config) as mainspring:
            return await mainspring.migrate()

    try:
        names = asyncio.run(run())
    except (CannotStart, Problem) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(names))
        return
    for name in names:
        click.echo(f"{name} is at this version")
