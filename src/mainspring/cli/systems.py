"""`systems`: what there is, how far each has come, and where it listens."""

import json
from pathlib import Path
from typing import Any

import click

from mainspring.core.manifest import manifests

from .options import read, with_config


@click.command()
@with_config
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
@click.option("--readme", is_flag=True, help="Print the README's table.")
def systems(data: str | None, config_file: Path | None, settings: tuple[str, ...], as_json: bool, readme: bool) -> None:
    """List the systems, their level, state and listeners.

    Where a server owns the data folder it is asked; else the states are what the manifests say.

    \b
    mainspring systems
    mainspring systems --json
    """
    if readme:
        click.echo(readme_table(), nl=False)
        return
    rows = _rows(Path(read(config_file, settings, data=data).data))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for one in rows:
        doors = ", ".join(f"{door['protocol']} {door['address'] or 'off'}" for door in one["listeners"])
        click.echo(f"{one['family'] + '/' + one['name']:<24} level {one['level']}  {one['state']:<8} {one['summary']}")
        if doors:
            click.echo(f"{'':<24} {doors}")
        if one.get("reason"):
            click.echo(f"{'':<24} {one['reason']}")


def _rows(folder: Path) -> list[dict[str, Any]]:
    from mainspring.core.application import describe
    from mainspring.core.data import Unreachable, ask

    if (folder / "control.sock").exists():
        try:
            rows: list[dict[str, Any]] = ask(folder, "systems")
            return rows
        except Unreachable:
            pass  # the socket of a server that was killed
    return [describe(manifest) for manifest in manifests().values()]


def readme_table() -> str:
    """The README's table of systems, from the manifests."""
    lines = ["| system | what it is | level | state | missing for the next level |", "|---|---|---|---|---|"]
    for one in sorted(manifests().values(), key=lambda one: (one.family, one.name)):
        state = "works" if one.level >= 3 else "partly"
        missing = "; ".join(one.missing) or "—"
        path = f"src/mainspring/{one.family}/{one.name}/README.md"
        lines.append(f"| [{one.family}/{one.name}]({path}) | {one.summary} | {one.level} | {state} | {missing} |")
    return "\n".join(lines) + "\n"
