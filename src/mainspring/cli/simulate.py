"""`simulate`: seeded histories with delays, cuts, crashes and skewed clocks; a failing seed replays exactly."""

import json

import click

from mainspring.core.manifest import manifests, nearest, resolve

from .installed import must_be_installed
from .progress import progress


@click.command()
@click.argument("protocol")
@click.option("--seeds", type=click.IntRange(1), default=1000, show_default=True, help="How many histories.")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="The first seed.")
@click.option(
    "--seed", type=click.IntRange(0), default=None, help="Replay this one seed in this process and show its fault."
)
@click.option("--workers", type=click.IntRange(1), default=None, help="Processes; by default one a core.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def simulate(protocol: str, seeds: int, first: int, seed: int | None, workers: int | None, as_json: bool) -> None:
    """Check a protocol's promises over many seeded histories with faults.

    \b
    mainspring simulate ids --seeds 10000
    mainspring simulate ids --seed 4711      replay one history

    Exit code 1 where a seed breaks a promise; that seed is printed.
    """
    owners = {one.name: manifest for manifest in manifests().values() for one in manifest.simulations}
    calls = {one.name: one.call for manifest in manifests().values() for one in manifest.simulations}
    if protocol not in calls:
        raise click.UsageError(
            f"there is no protocol {protocol!r}{nearest(protocol, calls)} (there are {', '.join(calls)})"
        )
    must_be_installed(owners[protocol])
    if seed is not None:
        _replay(protocol, calls[protocol], seed, as_json)
        return

    from mainspring.core.simulator.campaign import campaign

    with progress("seeds", seeds) as tell:
        result = campaign(
            calls[protocol],
            range(first, first + seeds),
            workers=workers,
            on_progress=lambda done, _total, _failed: tell(done),
        )
    failures = result.failures
    if as_json:
        click.echo(
            json.dumps(
                {"protocol": protocol, "seeds": result.seeds, "failures": [[one.seed, one.message] for one in failures]}
            )
        )
    elif failures:
        for one in failures[:5]:
            click.echo(f"seed {one.seed}: {one.message}")
        click.echo(f"replay: mainspring simulate {protocol} --seed {failures[0].seed}")
    else:
        click.echo(f"{protocol}: {seeds:,} seeds, no violation")
    if failures:
        raise click.exceptions.Exit(1)


def _replay(protocol: str, call: str, seed: int, as_json: bool) -> None:
    """One history in this process; of one that fails people get the whole traceback, and programs what it says."""
    try:
        resolve(call)(seed)
    except Exception as fault:
        if not as_json:
            raise
        message = str(fault) or type(fault).__name__
        click.echo(json.dumps({"protocol": protocol, "seed": seed, "failed": True, "message": message}))
        raise click.exceptions.Exit(1) from None
    told = json.dumps({"protocol": protocol, "seed": seed, "failed": False})
    click.echo(told if as_json else f"seed {seed}: no violation")
