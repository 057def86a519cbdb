"""`limiter replay`: what a policy would have refused of a recorded access log, before it is switched on."""

import os
from pathlib import Path
from typing import IO

import click
import msgspec
from rich.console import Console
from rich.table import Table

from mainspring.core.problems import Problem

ROWS = 20
KEYS = ("address", "user", "path", "route", "everyone")


@click.group()
def limiter() -> None:
    """Try limits out.

    \b
    mainspring limiter replay access.log --policy "100/minute"
    """


@limiter.command()
@click.argument("log", type=click.File("r", encoding="utf-8", errors="replace"))
@click.option("--policy", required=True, metavar="TEXT", help="A policy, or a file that holds one.")
@click.option(
    "--key", "keys", multiple=True, type=click.Choice(KEYS), default=("address",), help="The key for each level."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def replay(log: IO[str], policy: str, keys: tuple[str, ...], as_json: bool) -> None:
    """Run the requests of an access log (common or combined format) through a policy.

    \b
    mainspring limiter replay access.log --policy "100/minute"
    mainspring limiter replay access.log --policy "10/s burst 20 > 200/s" --key address --key everyone
    zcat access.log.*.gz | mainspring limiter replay - --policy limits.txt
    """
    from mainspring.primitives.limiter import replay_log

    try:
        told = replay_log(log, Path(policy).read_text() if os.path.isfile(policy) else policy, keys)  # type: ignore[arg-type]
    except Problem as problem:
        raise click.UsageError(problem.detail) from None
    if as_json:
        click.echo(msgspec.json.encode(told).decode())
        return
    total = told.admitted + told.refused
    share = told.refused / total if total else 0.0
    click.echo(f"{total:,} requests, {told.refused:,} refused ({share:.2%}), of {told.keys_refused:,} keys")
    if told.unread:
        click.echo(f"{told.unread:,} of {told.lines:,} lines are in no known format")
    screen = Console()
    by_key = Table("key", "admitted", "refused", title="Who would have been refused most")
    for key in told.keys[:ROWS]:
        by_key.add_row(key.key, f"{key.admitted:,}", f"{key.refused:,}")
    by_minute = Table("minute (UTC)", "admitted", "refused", title="When most would have been refused")
    for minute in sorted(told.minutes, key=lambda one: one.refused, reverse=True)[:ROWS]:
        if minute.refused:
            by_minute.add_row(minute.at, f"{minute.admitted:,}", f"{minute.refused:,}")
    for table in (by_key, by_minute):
        if table.row_count:
            screen.print(table)
