"""The same script against another S3 server and ours, with equal answers; where they differ, a file says why, and who is right.

What we answered then is kept in `answers.jsonl`, and answered again where the other server is not at hand.

The other one is versitygw: `go install github.com/versity/versitygw/cmd/versitygw@latest`, on the path or named by VERSITYGW.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.storage.objects.s3.running import Running, aside
from tests.storage.objects.s3.script import Told, client, play

PATIENCE_S = 60
ANSWERS = Path(__file__).with_name("answers.jsonl")
DIFFERENCES = Path(__file__).with_name("differences.toml")
SECRET = "versity's secret key"


class Difference(msgspec.Struct, forbid_unknown_fields=True):
    """In these steps the answers differ so far, ours and theirs; `because` says who is right, by AWS's documentation."""

    because: str
    steps: list[str]
    ours: Told = {}
    theirs: Told = {}


@pytest.fixture
def versitygw(tmp_path: Path) -> Iterator[str]:
    """The address of a versitygw on an empty directory."""
    program = os.environ.get("VERSITYGW") or shutil.which("versitygw")
    if program is None:
        pytest.skip("needs versitygw (go install github.com/versity/versitygw/cmd/versitygw@latest)")
    for name in ("objects", "versions"):
        (tmp_path / "versitygw" / name).mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    keys = ["--access", "versity", "--secret", SECRET, "--region", "us-east-1"]
    posix = [
        "posix",
        "--versioning-dir",
        str(tmp_path / "versitygw" / "versions"),
        str(tmp_path / "versitygw" / "objects"),
    ]
    process = subprocess.Popen(
        [program, "--port", f"127.0.0.1:{port}", *keys, "--quiet", *posix], stdout=subprocess.DEVNULL
    )
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline_s, "versitygw did not start"
                time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def parted(ours: Told, theirs: Told) -> tuple[Told, Told]:
    """Only that in which they differ, on each side."""
    names = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
    return {name: ours[name] for name in names & ours.keys()}, {name: theirs[name] for name in names & theirs.keys()}


async def test_the_script_is_answered_as_it_was_beside_another_server(running: Running) -> None:
    seen = await aside(play, client(running.address, running.access_key, running.secret_key))
    kept = [msgspec.json.decode(line, type=dict[str, object]) for line in ANSWERS.read_bytes().splitlines()]
    assert [{"step": name, **told} for name, told in seen.items()] == kept


@pytest.mark.peer
async def test_two_servers_answer_one_script_alike(running: Running, versitygw: str) -> None:
    ours = await aside(play, client(running.address, running.access_key, running.secret_key))
    theirs = await aside(play, client(versitygw, "versity", SECRET))
    known = msgspec.toml.decode(DIFFERENCES.read_bytes(), type=dict[str, list[Difference]])["difference"]
    assert list(ours) == list(theirs)
    found = {name: pair for name in ours if (pair := parted(ours[name], theirs[name])) != ({}, {})}
    expected: dict[str, tuple[Told, Told]] = {}
    for one in known:
        for name in one.steps:
            before = expected.get(name, ({}, {}))
            expected[name] = ({**before[0], **one.ours}, {**before[1], **one.theirs})
    assert found == expected
