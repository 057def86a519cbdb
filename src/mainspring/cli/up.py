"""`up`: one process with everything, until it is told to stop."""

import asyncio
import gc
import logging
import os
import signal
import sys
from pathlib import Path

import click

from mainspring.core.config import Config

from .options import read, with_config

YOUNG_OBJECTS_MAX = 10_000
"""So many new objects before the garbage collector looks at them. All requests in flight together are some thousands, which
die by themselves; Python's own 700 has the collector walk them over and over, for a twelfth of all time under load."""


@click.command()
@click.argument("systems", nargs=-1)
@with_config
@click.option("--host", help="Address to bind to; loopback unless you mean it.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the console and the JSON API; 0 takes a free one.")
@click.option("--behind-tls", is_flag=True, default=None, help="A proxy in front of this node terminates TLS.")
@click.option(
    "--plain", multiple=True, metavar="LISTENER", help="Let this one be off loopback without TLS; may be repeated."
)
@click.option(
    "--accounts",
    type=click.Path(exists=True, dir_okay=False),
    help="JSON or TOML file with further S3 accounts and their key pairs (objects.accounts).",
)
@click.option("--quiet", is_flag=True, help="Print only the address.")
def up(
    systems: tuple[str, ...],
    data: str | None,
    config_file: Path | None,
    settings: tuple[str, ...],
    host: str | None,
    port: int | None,
    behind_tls: bool | None,
    plain: tuple[str, ...],
    accounts: str | None,
    quiet: bool,
) -> None:
    """Start SYSTEMS (all where none is named) and print the console's address.

    \b
    mainspring up                              everything, on 127.0.0.1:8080
    mainspring up links --port 0               one system and what it uses, on a free port
    mainspring up --set links.domain=go.example --data ./data

    When it answers, one line is printed that begins with "ready http://…/" and carries a one-click token
    that is valid until the process ends. Stop it with Ctrl-C: running requests are finished first.
    """
    import uvloop

    gc.set_threshold(YOUNG_OBJECTS_MAX)
    gc.disable()  # until it is ready: what is loaded meanwhile stays, and walking it takes a sixth of the time to start
    # The database's writer must not wait five milliseconds for its turn while the loop is busy.
    sys.setswitchinterval(0.0005)
    if accounts is not None:
        settings = (*settings, f"objects.accounts={accounts}")
    named = {"plain": list(plain)} if plain else {}
    config = read(config_file, settings, data=data, host=host, port=port, behind_tls=behind_tls, **named)
    raise click.exceptions.Exit(uvloop.run(_serve(config, systems, quiet=quiet)))


async def _serve(config: Config, systems: tuple[str, ...], *, quiet: bool) -> int:
    from mainspring.console import console
    from mainspring.console.sign_ins import SignIns
    from mainspring.core.application import CannotStart, Mainspring
    from mainspring.core.manifest import UnknownSystem
    from mainspring.core.telemetry import logs

    logs.configure(level="WARNING" if quiet else config.log_level.upper(), form=config.log_format)
    logging.getLogger("_granian").setLevel("WARNING")  # what its native side tells is of its own threads
    asked, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop() -> None:
        if asked.is_set():  # a second Ctrl-C does not wait for anybody
            sys.stderr.write("stopped without waiting\n")
            sys.stderr.flush()
            os._exit(130)
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        async with Mainspring(systems, config, console=console()) as mainspring:
            if mainspring.has("limiter"):
                mainspring.accounts.limit_sign_ins(SignIns(mainspring).allow)
            await mainspring.listen()
            gc.freeze()  # what is there now stays: full collections need not look at it
            gc.enable()
            click.echo(f"ready {mainspring.address}?token={mainspring.one_click}")
            sys.stdout.flush()
            if not quiet:
                _tell(mainspring.systems())
            await asked.wait()
            if not quiet:
                click.echo("stopping: running requests are finished first (Ctrl-C again to not wait)", err=True)
    except UnknownSystem as error:
        raise click.UsageError(str(error)) from None
    except CannotStart as error:
        click.echo(f"mainspring: {error}", err=True)
        return 1
    return 0


def _tell(systems: list[dict[str, object]]) -> None:
    """The doors, on stderr: where clients of each field connect."""
    for one in systems:
        doors = [
            f"{door['name']} off: {door['reason']}" if door["state"] == "off" else str(door["address"])
            for door in one["listeners"]  # type: ignore[attr-defined]
        ]
        reason = f" ({one['reason']})" if one.get("reason") else ""
        click.echo(f"  {one['family']}/{one['name']:<12} {'  '.join(doors)}{reason}", err=True)
