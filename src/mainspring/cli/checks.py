"""`test`, `check` and `lock`: what a developer runs in a checkout."""

import os
import subprocess
import sys
import time
from pathlib import Path

import click


def _root() -> Path:
    root = Path(os.environ.get("MAINSPRING_ROOT") or Path.cwd())
    if not (root / "tests").is_dir():
        raise click.ClickException("this needs a checkout of the repository; run ./mainspring there")
    return root


@click.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def test(arguments: tuple[str, ...]) -> None:
    """Run the test suite; arguments go to pytest.

    \b
    mainspring test                         everything that this machine can run
    mainspring test tests/social -x         one part, until the first failure
    mainspring test -m slow                 many seeds and long soaks
    """
    chosen = [] if any(one == "-m" or one.startswith("-m=") for one in arguments) else ["-m", "not slow"]
    raise click.exceptions.Exit(
        subprocess.call([sys.executable, "-m", "pytest", *chosen, *arguments], cwd=_root(), env=os.environ)
    )


@click.command()
@click.option("--fix", is_flag=True, help="Let the formatter and the linter mend what they can.")
def check(fix: bool) -> None:
    """Run formatter, linter, strict type checkers and import contracts. Exit code 1 where one of them fails.

    \b
    mainspring check
    mainspring check --fix
    """
    root = _root()
    tools = [
        ["ruff", "format", *([] if fix else ["--check"]), "."],
        ["ruff", "check", *(["--fix"] if fix else []), "."],
        ["mypy"],
        ["lint-imports"],
    ]
    if (
        compiler := root / "web" / "node_modules" / "typescript" / "bin" / "tsc"
    ).is_file():  # where a console was built
        tools.append(["node", str(compiler.relative_to(root)), "--noEmit", "--project", "web"])
    failed = []
    for tool in tools:
        started = time.monotonic()
        code = subprocess.call([str(Path(sys.executable).parent / tool[0]), *tool[1:]], cwd=root)
        click.echo(
            f"{'ok    ' if code == 0 else 'FAILED'} {' '.join(tool)}  {time.monotonic() - started:.1f} s", err=True
        )
        if code:
            failed.append(tool[0])
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}")


LOCKS = {
    "run": ["pyproject.toml", "--extra", "all"],
    "dev": ["pyproject.toml", "--extra", "all", "--group", "dev"],
    "build": ["locks/build.in"],
    "uv": ["locks/uv.in"],
}


@click.command()
@click.option("--upgrade", is_flag=True, help="Take the newest versions instead of keeping the pinned ones.")
def lock(upgrade: bool) -> None:
    """Pin versions and hashes of what a run, development and a build need, without any index address.

    \b
    mainspring lock                after a change of pyproject.toml
    mainspring lock --upgrade
    """
    root = _root()
    for name, sources in LOCKS.items():
        subprocess.check_call(
            [
                *(str(root / ".venv" / "uv"), "pip", "compile", "--quiet", "--generate-hashes", "--universal"),
                *("--python-version", "3.11", "--no-header", "--no-annotate"),
                *(["--upgrade"] if upgrade else []),
                *(*sources, "-o", f"locks/{name}.txt"),
            ],
            cwd=root,
        )
        click.echo(f"locks/{name}.txt")
