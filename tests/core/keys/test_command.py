"""`mainspring keys`, without a server and with one."""

import json
from base64 import b64encode
from pathlib import Path

from click.testing import CliRunner

from mainspring.cli.keys import keys
from tests.fixtures_server import StartServer


def test_keys_are_made_and_changed_from_the_machine_itself(tmp_path: Path) -> None:
    master = tmp_path / "master"
    master.write_text(b64encode(bytes(32)).decode() + "\n")

    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(
            keys, [*words, "--data", str(tmp_path / "data"), "--set", f"master_key_file={master}"], env={}
        )
        return done.exit_code, done.output

    assert run("create", "photos") == (0, "photos\tenabled\tversion 1\n")
    assert run("rotate", "photos") == (0, "photos\tenabled\tversion 2\n")
    assert json.loads(run("disable", "photos", "--json")[1])[0]["state"] == "disabled"
    assert run("list") == (0, "photos\tdisabled\tversion 2\n")
    for words, reason in (
        (("create", "photos"), "There is a key"),
        (("enable", "letters"), "There is no key"),
        (("create", "a b"), "A key's name"),
    ):
        code, text = run(*words)
        assert code == 1 and reason in text
    master.write_text(b64encode(bytes(31) + b"x").decode())
    code, text = run("list")
    assert code == 1 and "master_key" in text


def test_a_running_server_is_asked_for_its_keys(start_server: StartServer) -> None:
    server = start_server("ids")
    assert server.command("keys", "create", "photos") == "photos\tenabled\tversion 1\n"
    assert [one["name"] for one in server.call("GET", "api/keys")["items"]] == ["photos"]
