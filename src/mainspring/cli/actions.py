"""What a command asks of whoever owns the data folder: the server where one runs, else this process."""

import asyncio
from pathlib import Path
from typing import Any

import click


def do(config: Any, action: str, **arguments: Any) -> Any:
    """Gives the action's answer. Raises `ClickException` with the reason where it is refused."""
    from mainspring.core.application import CannotStart, Mainspring
    from mainspring.core.data import ControlError, Unreachable, ask
    from mainspring.core.manifest import UnknownSystem
    from mainspring.core.problems import Problem

    async def here() -> Any:
        async with Mainspring([], config) as mainspring:
            return await mainspring.actions[action](arguments)

    try:
        return ask(Path(config.data), action, **arguments)
    except Unreachable:
        pass  # no server owns the folder: this process does
    except ControlError as refusal:
        raise click.ClickException(str(refusal)) from None
    try:
        return asyncio.run(here())
    except (CannotStart, UnknownSystem, Problem) as error:
        raise click.ClickException(str(error)) from None
