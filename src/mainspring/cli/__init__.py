"""The command line: one command a module, imported only when it is called, so that `--help` and `up` start at once."""

import gc
import importlib
import sys

import click

from mainspring import __version__

# name → (module, what its help says); the module has a click command of the command's name.
COMMANDS = {
    "up": ("up", "Start systems and print the console's address"),
    "systems": ("systems", "List the systems, their level, state and listeners"),
    "token": ("token", "Create and revoke API tokens"),
    "keys": ("keys", "Make, rotate and disable the keys that encrypt stored data"),
    "demo": ("demo", "Make lifelike data and traffic for a running server"),
    "doctor": ("doctor", "Check what is configured and say what to do"),
    "migrate": ("migrate", "Bring the database to this version"),
    "backup": ("backup", "Save everything while it runs"),
    "restore": ("backup", "Put a backup into an empty data folder"),
    "move": ("move", "Move what one machine holds to where many machines do"),
    "objects": ("objects", "Prove that a bucket reads back, with a signed report"),
    "limiter": ("limiter", "Try a limit on a recorded access log"),
    "bench": ("bench", "Measure systems beside their peers in the same run"),
    "simulate": ("simulate", "Play seeded histories with faults and check the promises"),
    "test": ("checks", "Run the test suite"),
    "check": ("checks", "Run formatter, linter, type checkers and import contracts"),
    "lock": ("checks", "Pin versions and hashes anew"),
}


class Lazy(click.Group):
    """Knows the names and one-line helps of all commands without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        gc.disable()  # what is imported stays, and walking it over and over takes a twentieth of a start
        module = importlib.import_module(f"mainspring.cli.{COMMANDS[cmd_name][0]}")
        gc.enable()
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from mainspring.core.manifest import nearest

            ctx.fail(f"there is no command {args[0]!r}{nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mainspring")
def cli() -> None:
    """The systems behind the apps everyone uses, for real, in one process.

    \b
    mainspring up                     start everything
    mainspring up links               start one system and what it uses
    mainspring token create links     a token for its API
    mainspring COMMAND --help         options and examples

    Exit codes: 0 done, 1 failed (the text on stderr says why), 2 wrong usage, 130 interrupted.
    """


def main() -> None:
    """Exit codes: 0 done, 1 failed (the text says why), 2 wrong usage, 130 interrupted."""
    try:
        # The code of `click.exceptions.Exit`, or whatever a command returned.
        code = cli(prog_name="mainspring", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
