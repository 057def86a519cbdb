"""What every command promises: help with an example, JSON for programs, and an exit code that says how it went."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from mainspring.cli import cli
from tests.fixtures_server import environment

JSON = ("systems", "bench", "simulate", "doctor", "migrate", "backup", "restore", "token create", "demo", "keys list")


def run(*words: str) -> Result:
    """Runs a command in this process, as the shell would, with nothing configured."""
    nothing = {name: None for name in os.environ if name.startswith("MAINSPRING_")}
    return CliRunner(env=nothing).invoke(cli, words)


def commands(of: click.Command = cli, *words: str) -> Iterator[tuple[str, click.Command]]:
    """Every command and group by the words that name it; `test` hands its arguments to pytest, `--help` too."""
    if words:
        yield " ".join(words), of
    if isinstance(of, click.Group):
        context = click.Context(of)
        for name in of.list_commands(context):
            command = of.get_command(context, name)
            assert command is not None, f"{name} is listed and not there"
            if name != "test":
                yield from commands(command, *words, name)


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_help_has_an_example_that_can_be_pasted(name: str) -> None:
    shown = run(*name.split(), "--help")
    assert shown.exit_code == 0
    assert [line for line in shown.output.splitlines() if line.startswith(f"  mainspring {name}")], shown.output


def test_what_programs_read_comes_as_json_too() -> None:
    known = dict(commands())
    assert [name for name in JSON if "--json" not in {one for p in known[name].params for one in p.opts}] == []


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("system",), 2, "there is no command 'system'; did you mean \"systems\"?"),
        (("nonsense",), 2, "there is no command 'nonsense'"),
        (("systems", "--set", "link.domain=x"), 2, 'did you mean "links"?'),
        (("token", "create", "link"), 1, 'did you mean "links"?'),
        (("token", "revoke", "abc"), 2, "TOKEN_ID"),
        (("token", "revoke", "12"), 1, "no such account, token or session"),
        (("demo", "ids"), 2, "there is no demo of 'ids'"),
        (("demo", "links"), 1, "Start the server first"),
        (("bench", "nonsense"), 2, "there is no benchmark"),
        (("simulate", "id"), 2, 'did you mean "ids"?'),
        (("backup", "DATA"), 1, "would be lost with it"),
        (("restore", "DATA"), 1, "is not a backup"),
        (("doctor", "--set", "links.geo_file=/nowhere.mmdb"), 1, "!! links.geo_file /nowhere.mmdb: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_goes_wrong_says_so_and_ends_with_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, says: str
) -> None:
    monkeypatch.setenv("MAINSPRING_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    done = CliRunner().invoke(cli, [word.replace("DATA", str(tmp_path / "data")) for word in words])
    assert (done.exit_code, says in done.output) == (code, True), done.output


def test_a_listener_that_may_be_plain_must_be_one(tmp_path: Path) -> None:
    words = ["up", "ids", "--port", "0", "--plain", "nonsense", "--data", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "mainspring", *words], capture_output=True, text=True, timeout=120, env=environment()
    )
    assert done.returncode == 1 and "nonsense: there is no listener of this name" in done.stderr


def test_a_backup_is_made_and_put_back_by_a_program(tmp_path: Path) -> None:
    data, saved, again = (str(tmp_path / name) for name in ("data", "saved", "again"))
    prepared = run("migrate", "--data", data, "--json")
    assert "links" in json.loads(prepared.stdout)
    made = json.loads(run("token", "create", "links", "--data", data, "--json").stdout)
    backup = json.loads(run("backup", saved, "--data", data, "--json").stdout)
    assert backup["files"] > 0
    restored = json.loads(run("restore", saved, "--data", again, "--json").stdout)
    assert restored == {"files": backup["files"], "created_at": backup["created_at"], "data": again}
    assert run("token", "revoke", made["id"], "--data", again).exit_code == 0


def test_a_history_that_breaks_a_promise_is_told_to_programs_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    import mainspring.cli.simulate as command

    def broken(seed: int) -> None:
        raise AssertionError(f"seed {seed} gave an id twice")

    monkeypatch.setattr(command, "resolve", lambda call: broken)
    done = run("simulate", "ids", "--seed", "7", "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["failed"], told["message"]) == (1, True, "seed 7 gave an id twice")
    assert run("simulate", "ids", "--seed", "7").exit_code == 1


def test_a_demo_whose_server_goes_away_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import mainspring.core.data as data
    import mainspring.social.links.demo as links

    def ask(folder: Path, do: str, **arguments: Any) -> Any:
        if do == "token.revoke":
            raise data.Unreachable("nobody answers")
        return {"address": {"address": "http://x/"}, "systems": [], "token.create": {"id": "7", "token": "t"}}[do]

    def gone(*_: object) -> str:
        raise ConnectionRefusedError("Connection refused")

    monkeypatch.setattr(data, "ask", ask)
    monkeypatch.setattr(links, "run", gone)
    done = run("demo", "links")
    assert done.exit_code == 1 and "Error: Connection refused" in done.output
    assert "the demo's token 7 is not revoked: nobody answers" in done.output


WITHOUT_EXTRAS = """
import json, sys
from mainspring.core.manifest import manifests
for one in manifests().values():
    sys.modules.update(dict.fromkeys(one.modules if one.extra != "primitives" else ()))
from click.testing import CliRunner
from mainspring.cli import cli
told = []
for words in json.loads(sys.argv[1]):
    done = CliRunner().invoke(cli, [*words, *(("--data", sys.argv[2]) if words[0] != "simulate" else ())])
    told.append([done.exit_code, done.output, repr(done.exception)])
print(json.dumps(told))
"""


def test_where_only_the_core_is_installed_each_command_says_what_it_lacks(tmp_path: Path) -> None:
    storage, social = "pip install 'mainspring[storage]'", "pip install 'mainspring[social]'"
    asked = {
        ("systems",): (0, social),
        ("doctor",): (1, storage),
        ("doctor", "--keys"): (0, storage),
        ("migrate",): (0, "ids is at this version"),
        ("token", "create", "links"): (0, "ms_"),
        ("simulate", "log-groups", "--seeds", "1"): (1, storage),
        ("objects", "prove", "photos"): (1, storage),
        ("move", "log", "--to", "kafka://x:1"): (1, storage),
        ("move", "blobs", "--to", "s3://x"): (1, storage),
        ("demo", "log"): (1, storage),
        ("systems", "--set", "log.advertised=x"): (2, storage),
    }
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, json.dumps(list(asked)), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    for (words, (code, says)), (found, output, error) in zip(asked.items(), json.loads(done.stdout), strict=True):
        assert found == code and says in output, f"{words}: {found} {error} {output}"
