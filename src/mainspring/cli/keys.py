"""`keys`: the named keys under which stored data is encrypted, from the machine itself, whether the server runs or not."""

import json
from pathlib import Path
from typing import Any

import click

from .actions import do
from .options import read, with_config


@click.group()
def keys() -> None:
    """Make, rotate and disable the keys that encrypt stored data.

    \b
    mainspring keys create photos
    mainspring keys rotate photos
    mainspring keys disable photos
    mainspring keys list --json
    """


@keys.command("list")
@with_config
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
def list_keys(data: str | None, config_file: Path | None, settings: tuple[str, ...], as_json: bool) -> None:
    """List the keys: their state, and how often each was made or rotated.

    \b
    mainspring keys list --json
    """
    _show(do(read(config_file, settings, data=data), "keys", act="list"), as_json)


def _add(act: str, text: str) -> None:
    @keys.command(act, help=f"{text}\n\n\b\nmainspring keys {act} photos")
    @click.argument("name")
    @with_config
    @click.option("--json", "as_json", is_flag=True, help="Print a list with one object.")
    def change(name: str, data: str | None, config_file: Path | None, settings: tuple[str, ...], as_json: bool) -> None:
        _show(do(read(config_file, settings, data=data), "keys", act=act, name=name), as_json)


_add("create", "Make the key NAME.")
_add("rotate", "Give NAME new material, which seals from now on; what it sealed before opens as ever.")
_add("disable", "From now on nothing that NAME sealed can be opened.")
_add("enable", "Let NAME seal and open again.")


def _show(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found))
        return
    for key in found:
        click.echo(f"{key['name']}\t{key['state']}\tversion {key['versions']}")
