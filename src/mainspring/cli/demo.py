"""`demo`: lifelike data and traffic for a running server, so that its pages have something to show."""

import importlib
import json
from http.client import HTTPException
from pathlib import Path
from typing import Any

import click

from mainspring.core.manifest import manifests

from .installed import must_be_installed
from .options import read, with_config
from .progress import progress


def _with_demo() -> dict[str, str]:
    found = {one.name: f"mainspring.{one.family}.{one.name}.demo" for one in manifests().values()}
    return {name: module for name, module in found.items() if (manifests()[name].folder / "demo.py").is_file()}


@click.command()
@click.argument("system")
@with_config
@click.option("--rate", type=click.FloatRange(0.1, 1000), default=20, show_default=True, help="Events a second.")
@click.option("--seconds", type=click.FloatRange(0.1, 86_400), default=60, show_default=True, help="For how long.")
@click.option("--json", "as_json", is_flag=True, help="Print what was made as JSON.")
def demo(
    system: str,
    data: str | None,
    config_file: Path | None,
    settings: tuple[str, ...],
    rate: float,
    seconds: float,
    as_json: bool,
) -> None:
    """Make lifelike data and traffic for SYSTEM on the server that owns the data folder.

    \b
    mainspring up &
    mainspring demo links --rate 50 --seconds 120
    mainspring demo log --rate 500
    """
    from mainspring.core.data import ControlError, ask

    demos = _with_demo()
    if system not in demos:
        raise click.UsageError(f"there is no demo of {system!r} (there are {', '.join(demos)})")
    must_be_installed(manifests()[system])
    folder = Path(read(config_file, settings, data=data).data)
    try:
        server: dict[str, Any] = ask(folder, "address")
        listeners = {one["name"]: one["address"] for row in ask(folder, "systems") for one in row["listeners"]}
        made: dict[str, Any] = ask(folder, "token.create", system=system, name="demo")
    except ControlError as error:
        raise click.ClickException(f"{error}. Start the server first: mainspring up") from None
    run = importlib.import_module(demos[system]).run
    try:
        with progress("events", rate * seconds) as tell:
            told = run(server["address"], listeners, made, rate, seconds, tell)
    except (RuntimeError, OSError, HTTPException) as error:
        raise click.ClickException(str(error) or type(error).__name__) from None
    finally:
        try:
            ask(folder, "token.revoke", id=made["id"])
        except ControlError as error:
            click.echo(f"the demo's token {made['id']} is not revoked: {error}", err=True)
    click.echo(json.dumps({"system": system, "made": told}) if as_json else told)
