"""The whole in one process: embedded without a network, and as a server that a stranger starts."""

import asyncio
import importlib.util
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from mainspring.cli.doctor import doctor
from mainspring.core.application import CannotStart, Mainspring
from mainspring.core.config import Config
from mainspring.core.manifest import UnknownSystem
from mainspring.core.ports import Database
from tests.fixtures_server import StartServer, run_command


async def test_an_embedding_program_gets_services_without_a_network(tmp_path: Path) -> None:
    async with Mainspring(["ids"], Config(data=str(tmp_path))) as mainspring:
        from mainspring.primitives.ids import Ids

        ids = await mainspring.service(Ids)
        assert ids.next() < ids.next()
        with pytest.raises(RuntimeError, match="listen"):
            _ = mainspring.address


async def test_a_folder_in_use_and_an_unknown_system_are_refused_with_what_to_do(tmp_path: Path) -> None:
    async with Mainspring(["ids"], Config(data=str(tmp_path))):
        with pytest.raises(CannotStart, match="--data"):
            async with Mainspring(["ids"], Config(data=str(tmp_path))):
                pass
    with pytest.raises(UnknownSystem, match='"links"'):
        Mainspring(["lnks"])


async def test_a_port_that_was_named_must_bind_and_a_default_one_may_stay_off(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with Mainspring(["links"], Config(data=str(tmp_path), port=port)) as mainspring:
            with pytest.raises(CannotStart, match=f"{port}.*taken"):
                await mainspring.listen()
        async with Mainspring(["links"], Config(data=str(tmp_path), port=0, ports={"links": port})) as mainspring:
            with pytest.raises(CannotStart, match=r"ports\.links"):
                await mainspring.listen()


async def test_a_public_address_without_tls_is_refused_with_the_reason(tmp_path: Path) -> None:
    async with Mainspring(["ids"], Config(data=str(tmp_path), port=0, host="0.0.0.0")) as mainspring:
        with pytest.raises(CannotStart, match="--behind-tls"):
            await mainspring.listen()


@pytest.mark.parametrize("asks", [False, True])
async def test_a_system_off_loopback_is_open_where_its_own_setting_asks_for_credentials(
    tmp_path: Path, asks: bool
) -> None:
    config = Config(
        data=str(tmp_path),
        host="0.0.0.0",
        port=0,
        behind_tls=True,
        ports={"s3": 0} | ({"kafka": 0} if asks else {}),
        sections={"log": {"kafka": {"authentication": asks}}},
    )
    async with Mainspring(["log", "objects"], config) as mainspring:
        await mainspring.listen()
        doors = {door["name"]: door for one in mainspring.systems() for door in one["listeners"]}
    assert doors["s3"]["state"] == "open", "whoever does not sign is let in by a bucket's own policy only"
    assert (doors["kafka"]["state"], "credentials" in doors["kafka"]["reason"]) == (
        ("open", False) if asks else ("off", True)
    )


async def test_a_given_port_replaces_the_configured_one(tmp_path: Path, database: Database) -> None:
    async with Mainspring(["ids"], Config(data=str(tmp_path)), give={Database: database}) as mainspring:
        assert await mainspring.service(Database) is database  # type: ignore[type-abstract]


def test_the_server_answers_lists_itself_and_ends_in_order(start_server: StartServer) -> None:
    server = start_server()
    systems = {one["name"]: one for one in server.call("GET", "-/systems")["systems"]}
    assert {"ids", "limiter", "links"} <= set(systems)
    assert systems["ids"]["state"] == "idle", "a system that nobody touched is not built"
    server.call("POST", "api/ids", {"kind": "snowflake", "count": 1})
    listed = json.loads(server.command("systems", "--json"))
    assert next(one for one in listed if one["name"] == "ids")["state"] == "running"
    assert server.call("GET", "-/ready") == {"ready": True, "checks": {"database": "ok"}}
    assert server.stop() == 0


def test_a_token_is_made_with_the_server_and_without_it(start_server: StartServer) -> None:
    server = start_server("ids")
    with_server = json.loads(server.command("token", "create", "ids", "--json"))["token"]
    server.stop()
    without = json.loads(server.command("token", "create", "ids", "--json"))["token"]
    server.start()
    for token in (with_server, without):
        assert server.call("POST", "api/ids", {"kind": "ulid", "count": 2}, authorization=f"Bearer {token}")["ids"]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        server.call("POST", "api/ids", {"kind": "ulid", "count": 2}, authorization="Bearer ms_wrong")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        server.call("GET", "api/accounts/users", authorization=f"Bearer {without}")


def test_sessions_and_accounts_outlive_kill_9(start_server: StartServer) -> None:
    server = start_server("ids")
    server.call("POST", "api/accounts/set-up", {"name": "ada", "password": "correct horse battery staple"})
    server.kill()
    server.start()
    request = urllib.request.Request(
        server.address + "-/session",
        data=json.dumps({"name": "ada", "password": "correct horse battery staple"}).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        cookie = answer.headers["set-cookie"].partition(";")[0]
    who = urllib.request.Request(server.address + "api/accounts/whoami", headers={"cookie": cookie})
    with urllib.request.urlopen(who, timeout=30) as answer:
        assert json.load(answer)["name"] == "ada"


def test_an_interrupt_ends_the_server_too(start_server: StartServer) -> None:
    server = start_server("ids")
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(30) == 0


def test_a_wrong_key_is_a_usage_error_that_names_the_right_one() -> None:
    with pytest.raises(AssertionError, match='did you mean "port"'):
        run_command("up", "--set", "prot=1")


def test_doctor_says_what_is_wrong_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    wrong = {
        "data folder": (f"--data={file / 'below'}", "--data"),
        "database": (f"--set=database=postgresql://ann:secret@localhost/x?host={tmp_path}", "`database`"),
        "cache": (f"--set=cache=unix://{tmp_path}/none", "`cache`"),
        "log": ("--set=log=kafka://ann:secret@127.0.0.1:1", "`log`"),
        "blobs": ("--set=blobs=s3://ann:secret@bucket?endpoint=http://127.0.0.1:1&region=x", "`blobs`"),
        "certificate": (f"--set=tls_certificate={file}", "`tls_certificate`"),
    }
    monkeypatch.setattr("mainspring.cli.doctor.REACH_S", 1)
    options = [option.partition("=") for option, _ in wrong.values()]
    told = CliRunner().invoke(doctor, ["--json", *(part for name, _, value in options for part in (name, value))])
    assert told.exit_code == 1 and "secret" not in told.output
    found = {one["what"].partition(f" {file}")[0]: one for one in json.loads(told.output)}
    for what, (_, do) in wrong.items():
        one = next(one for name, one in found.items() if name.startswith(what))
        assert one["wrong"] and do in one["do"], one
    public = CliRunner().invoke(doctor, ["--data", str(tmp_path), "--set", "host=0.0.0.0", "--json"])
    assert [one["what"] for one in json.loads(public.output) if one["wrong"]] == ["host 0.0.0.0"]
    well = CliRunner().invoke(doctor, ["--data", str(tmp_path), "--json"])
    assert well.exit_code == 0 and not any(one["wrong"] for one in json.loads(well.output)), well.output
    keys = json.loads(run_command("doctor", "--keys", "--json"))
    assert {"data", "port", "database"} <= {one["key"] for one in keys}
    assert all(one["meaning"] for one in keys)


def test_help_is_quick_to_import_nothing_heavy() -> None:
    code = "import sys; import mainspring.cli; print([m for m in ('sqlalchemy', 'granian', 'psycopg') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_backup_taken_while_it_runs_brings_everything_back(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("ids")
    server.call("POST", "api/ids/sequences/invoice", {"count": 10})
    saved = json.loads(server.command("backup", str(tmp_path / "monday"), "--json"))
    assert saved["files"] >= 1
    with pytest.raises(AssertionError, match="exists already"):
        server.command("backup", str(tmp_path / "monday"))
    server.call("POST", "api/ids/sequences/invoice", {"count": 10})
    with pytest.raises(AssertionError, match="in use"):
        server.command("restore", str(tmp_path / "monday"), "--force")
    server.stop()
    run_command("restore", str(tmp_path / "monday"), "--data", str(tmp_path / "restored"))
    restored = start_server("ids", data="restored")
    assert int(restored.call("POST", "api/ids/sequences/invoice", {"count": 1})["first"]) > 10


async def test_a_system_whose_extra_is_missing_says_which_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mainspring.core.manifest as manifest

    found = importlib.util.find_spec
    monkeypatch.setattr(manifest.importlib.util, "find_spec", lambda name: None if name == "segno" else found(name))
    async with Mainspring(["links"], Config(data=str(tmp_path), port=0, ports={"links": 0})) as mainspring:
        await mainspring.listen()
        links = next(one for one in mainspring.systems() if one["name"] == "links")
        assert links["state"] == "missing"
        assert "pip install 'mainspring[social]'" in links["reason"]
        request = urllib.request.Request(
            f"{mainspring.address}api/links/links", headers={"authorization": f"Bearer {mainspring.one_click}"}
        )
        with pytest.raises(urllib.error.HTTPError, match="503") as refused:
            await asyncio.to_thread(urllib.request.urlopen, request, timeout=30)
        assert "mainspring[social]" in refused.value.read().decode()
