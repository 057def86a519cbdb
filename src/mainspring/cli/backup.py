"""`backup` and `restore`: everything that a node keeps, as a folder with checksums."""

import asyncio
import json
from pathlib import Path
from typing import Any

import click

from .options import read, with_config


@click.command()
@click.argument("target", type=click.Path(file_okay=False, path_type=Path))
@with_config
@click.option("--json", "as_json", is_flag=True, help="Print what was saved as JSON.")
def backup(target: Path, data: str | None, config_file: Path | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Save everything to the new folder TARGET, while the server runs or without it.

    \b
    mainspring backup /backups/monday
    """
    from mainspring.core.application import CannotStart, Mainspring
    from mainspring.core.backup import BackupError
    from mainspring.core.data import ControlError, Unreachable, ask

    config = read(config_file, settings, data=data)
    where = str(target.absolute())

    async def here() -> dict[str, Any]:
        async with Mainspring([], config) as mainspring:
            done: dict[str, Any] = await mainspring.actions["backup"]({"target": where})
            return done

    try:
        saved = ask(Path(config.data), "backup", timeout_s=3600, target=where)
    except Unreachable:
        try:
            saved = asyncio.run(here())
        except (CannotStart, BackupError) as error:
            raise click.ClickException(str(error)) from None
    except ControlError as error:
        raise click.ClickException(str(error)) from None
    click.echo(
        json.dumps(saved) if as_json else f"saved {saved['files']} files, {saved['size_bytes']:,} bytes, to {target}"
    )


@click.command()
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@with_config
@click.option("--force", is_flag=True, help="Replace what is in the data folder.")
@click.option("--json", "as_json", is_flag=True, help="Print what was restored as JSON.")
def restore(
    source: Path, data: str | None, config_file: Path | None, settings: tuple[str, ...], force: bool, as_json: bool
) -> None:
    """Put the backup SOURCE into an empty data folder (and, where `database` is set, an empty PostgreSQL; and, where
    `log.directories` is, into the first of these).

    Every checksum is verified before anything is touched.

    \b
    mainspring restore /backups/monday --data ./restored
    """
    from mainspring.core.application import prepare_all
    from mainspring.core.backup import BackupError
    from mainspring.core.backup import restore as put_back

    config = read(config_file, settings, data=data)
    where: dict[str, Any] = {"database": config.database, "elsewhere": config.elsewhere()}
    try:
        manifest = asyncio.run(put_back(source, Path(config.data), **where, prepare=prepare_all, force=force))
    except BackupError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps({"files": len(manifest.files), "created_at": manifest.created_at, "data": config.data}))
        return
    click.echo(f"restored {len(manifest.files)} files of {manifest.created_at} into {config.data}")
