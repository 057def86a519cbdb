"""`move`: from one machine's own engines to what stands behind the same ports on many."""

import asyncio
from pathlib import Path
from typing import Any, cast

import click

from mainspring.core.manifest import manifests

from .installed import must_be_installed
from .options import read, with_config
from .progress import progress


@click.group()
def move() -> None:
    """Move what one machine holds to where many machines do, with everything verified.

    \b
    mainspring move log --to kafka://broker-1:9092
    mainspring move blobs --to s3://bucket/prefix
    """


@move.command("log")
@click.option("--to", "target", required=True, help="Where to: kafka://host:port,…")
@with_config
def log(target: str, data: str | None, config_file: Path | None, settings: tuple[str, ...]) -> None:
    """Move all topics, records and positions of groups to a Kafka. Stop the server first.

    Topics over there must not exist, or be empty. Nothing here is changed before all records have been read back and compared;
    then the positions that live in the database are counted anew for that Kafka, and the server is started with it.

    \b
    mainspring move log --to kafka://broker-1:9092
    mainspring up --set log=kafka://broker-1:9092
    """
    must_be_installed(manifests()["log"])
    from mainspring.core.application import CannotStart, Mainspring
    from mainspring.core.outbox.relay import Relay
    from mainspring.core.ports import Database
    from mainspring.core.problems import Problem
    from mainspring.storage.log import Log, Moved, move_to_kafka, record_count

    config = read(config_file, settings, data=data)
    if config.log:
        raise click.UsageError("`log` names a Kafka already: what is moved is this node's own log")

    async def run() -> Moved:
        async with Mainspring(["log"], config) as mainspring:
            own = await mainspring.service(Log)
            relay = await mainspring.service(Relay)
            database: Database = await mainspring.service(cast(Any, Database))
            with progress(f"moving to {target}", 2 * max(1, record_count(own))) as show:
                total = record_count(own)
                async with relay.at_rest():
                    return await move_to_kafka(
                        own, database, target, lambda what, done: show(done if what == "copied" else total + done)
                    )

    try:
        moved = asyncio.run(run())
    except (CannotStart, Problem, ValueError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(
        f"moved {moved.topics} topics, {moved.records:,} records and {moved.groups} groups; now set log={target}"
    )


@move.command("blobs")
@click.option("--to", "target", required=True, help="Where to: s3://bucket/prefix?endpoint=…&region=…")
@click.option("--bucket", default="", help="Another bucket than the one of this node's own blobs.")
@with_config
def blobs(target: str, bucket: str, data: str | None, config_file: Path | None, settings: tuple[str, ...]) -> None:
    """Move all blobs to a bucket of an S3, which must exist. Stop the server first.

    Each is read back and compared. Nothing here is changed, and running it again goes on where it was.

    \b
    mainspring move blobs --to "s3://backups/blobs?endpoint=https://s3.example.org&region=eu-west-1"
    """
    must_be_installed(manifests()["objects"])
    from mainspring.core.application import CannotStart, Mainspring
    from mainspring.core.problems import Problem
    from mainspring.storage.objects import CloudBlobs, Moved, ObjectBlobs, Objects, move_blobs, total_bytes

    config = read(config_file, settings, data=data)

    async def run() -> Moved:
        over_there = CloudBlobs(target)
        async with Mainspring(["objects"], config) as mainspring:
            objects = await mainspring.service(Objects)
            source = ObjectBlobs(objects, bucket) if bucket else ObjectBlobs(objects)
            with progress("moving blobs", max(1, await total_bytes(source))) as show:
                return await move_blobs(source, over_there, show)

    try:
        moved = asyncio.run(run())
    except (CannotStart, Problem, ValueError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"moved {moved.blobs:,} blobs, {moved.size_bytes:,} bytes; {moved.sent:,} were not there yet")
