"""`bench`: each system beside its peers in the same run, as ratios."""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import click


def _names(root: Path) -> list[str]:
    paths = sorted((root / "bench").glob("*/*.py"))
    return [str(path.relative_to(root / "bench").with_suffix("")) for path in paths if "\ndef run(" in path.read_text()]


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--seconds", type=click.FloatRange(0.05, 120), default=3.0, show_default=True, help="Time of one side of a line."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def bench(names: tuple[str, ...], seconds: float, as_json: bool) -> None:
    """Measure systems beside what a user would pick instead; ratios above 1 are won.

    \b
    mainspring bench                      everything
    mainspring bench ids                  one system
    mainspring bench core/database --json
    """
    root = Path(os.environ.get("MAINSPRING_ROOT") or Path.cwd())
    if not (root / "bench").is_dir():
        raise click.ClickException("benchmarks need a checkout of the repository; run ./mainspring there")
    sys.path.insert(0, str(root))
    known = _names(root)
    chosen = [name for name in known if not names or name in names or name.split("/")[1] in names]
    unknown = [one for one in names if one not in known and one not in {name.split("/")[1] for name in known}]
    if unknown:
        raise click.UsageError(f"there is no benchmark {unknown[0]!r}; there are {', '.join(known)}")

    results: dict[str, list[Any]] = {}
    for name in chosen:
        click.echo(f"{name} …", err=True)
        results[name] = importlib.import_module(f"bench.{name.replace('/', '.')}").run(seconds)
        if not as_json:
            _print(name, results[name])
    if as_json:
        click.echo(json.dumps({name: [line.to_json() for line in lines] for name, lines in results.items()}, indent=2))


def _print(name: str, lines: list[Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=name, title_justify="left")
    for column, justify in (("", "left"), ("ours", "right"), ("peer", "right"), ("ratio", "right"), ("asked", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for line in lines:
        ratio, target = line.ratio, line.target
        met = ratio is None or target is None or ratio >= target
        table.add_row(
            f"{line.name}\n[dim]beside {line.peer_name}[/dim]" if line.peer else line.name,
            _figures(line.ours, line.unit),
            _figures(line.peer, line.unit),
            "" if ratio is None else f"[{'green' if met else 'red'}]{ratio:.2f}×[/]",
            "" if target is None else f"{target:g}×",
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _figures(values: list[float], unit: str) -> str:
    if not values:
        return ""
    ordered = sorted(values)
    middle = ordered[len(ordered) // 2]
    text = f"{middle:,.0f}" if middle >= 100 else f"{middle:.3g}"
    return f"{text} {unit}\n[dim]{ordered[0]:,.3g} – {ordered[-1]:,.3g}[/dim]" if len(values) > 1 else f"{text} {unit}"
