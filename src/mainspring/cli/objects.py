"""`objects prove`: a bucket read again, byte by byte and shard by shard, and a signed report of what was found."""

import asyncio
from pathlib import Path

import click
import msgspec

from mainspring.core.manifest import manifests

from .installed import must_be_installed
from .options import read, with_config


@click.group()
def objects() -> None:
    """Look after the object store.

    \b
    mainspring objects prove photos
    """


@objects.command()
@click.argument("bucket")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the report to this file as JSON.")
@with_config
def prove(bucket: str, out: Path | None, data: str | None, config_file: Path | None, settings: tuple[str, ...]) -> None:
    """Read every object of BUCKET and every shard of it again. Stop the server first.

    Exit code 1 where something does not read back. The report is signed with the store's own key.

    \b
    mainspring objects prove photos --out photos.json
    """
    must_be_installed(manifests()["objects"])
    from mainspring.core.application import CannotStart, Mainspring
    from mainspring.core.problems import Problem
    from mainspring.storage.objects import Objects, Report
    from mainspring.storage.objects import prove as read_again

    config = read(config_file, settings, data=data)

    async def run() -> Report:
        async with Mainspring(["objects"], config) as mainspring:
            return await read_again(await mainspring.service(Objects), bucket)

    try:
        report = asyncio.run(run())
    except (CannotStart, Problem) as error:
        raise click.ClickException(str(error)) from None
    text = msgspec.json.format(msgspec.json.encode(report), indent=2)
    if out is not None:
        out.write_bytes(text + b"\n")
    left = "no" if report.redundancy_min is None else report.redundancy_min
    click.echo(
        f"{report.proven:,} objects of {report.versions - report.markers:,} read back as they were put, "
        f"{report.size_bytes:,} bytes; {report.shards:,} shards are whole, {report.bad_shards:,} are not; "
        f"the weakest stripe can lose {left} more"
    )
    for failure in report.failures:
        click.echo(failure, err=True)
    if report.failed or report.bad_shards:
        raise click.exceptions.Exit(1)
