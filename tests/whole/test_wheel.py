"""What is published: a wheel built from a clean clone has everything in it, and serves the console and its systems."""

import os
import re
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest

from tests.fixtures_server import Server, StartServer
from tests.needs import REPOSITORY, missing, need_program

pytestmark = pytest.mark.peer

BUILD_S = 300
ATTEMPTS = 2


def build(folder: Path) -> Path:
    """The wheel of what is committed. Registries are asked for the build's tools and for the console's parts."""
    git = need_program("git")
    kept = [REPOSITORY / ".venv" / "uv", Path(sys.executable).with_name("uv")]
    uv = next((path for path in kept if path.exists()), None) or need_program("uv")
    if not (REPOSITORY / ".git").exists():
        missing("needs a checkout that git knows")
    clone = folder / "clone"
    subprocess.run([git, "clone", "--quiet", "--no-hardlinks", REPOSITORY, clone], check=True, timeout=BUILD_S)
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("MAINSPRING_", "VIRTUAL_ENV"))
    }
    command = [uv, "build", "--wheel", "--python", sys.executable, "--build-constraints", "locks/build.txt"]
    for _ in range(ATTEMPTS):
        done = subprocess.run(
            [*command, "--out-dir", folder / "dist"],
            cwd=clone,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BUILD_S,
        )
        if done.returncode == 0:
            (wheel,) = (folder / "dist").glob("*.whl")
            return wheel
    missing(f"needs a wheel, which could not be built: {done.stdout[-3000:]}")
    raise AssertionError("unreachable")


def committed(clone: Path) -> set[str]:
    """What the package's folder has in the clone, as the wheel should call it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "src/mainspring"], cwd=clone, capture_output=True, text=True, check=True, timeout=60
    )
    return {name.removeprefix("src/") for name in listed.stdout.split("\0") if name}


def get(server: Server, path: str, door: str = "", **headers: str) -> tuple[str, bytes]:
    """The content type and body of an address, of the main door unless another one is named."""
    request = urllib.request.Request((door or server.address) + path, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.headers["content-type"], answer.read()


def test_a_wheel_from_a_clean_clone_serves_the_console_and_every_system(
    tmp_path: Path, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = build(tmp_path)
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(unpacked)
    assert committed(tmp_path / "clone") <= names
    (described,) = [name for name in names if name.endswith(".dist-info/entry_points.txt")]
    assert "mainspring = mainspring.cli:main" in (unpacked / described).read_text()
    shutil.rmtree(tmp_path / "clone")

    monkeypatch.setenv("PYTHONPATH", str(unpacked))  # before whatever is installed here
    where = [sys.executable, "-c", "import mainspring; print(mainspring.__file__)"]
    ours = subprocess.run(where, capture_output=True, text=True, check=True, timeout=60).stdout
    assert ours.startswith(str(unpacked))

    server = start_server()
    kind, page = get(server, "")
    assert kind.startswith("text/html")
    assets = re.findall(r'(?:src|href)="/?([^"]+\.(?:js|css))"', page.decode())
    assert {Path(asset).suffix for asset in assets} == {".js", ".css"}
    for asset in assets:
        kind, content = get(server, asset)
        assert ("javascript" if asset.endswith(".js") else "css") in kind and len(content) > 1000
    link = server.call("POST", "api/links/links", {"url": "https://example.org"})
    assert get(server, f"api/links/links/{link['id']}/qr", authorization=f"Bearer {server.token}")[0] == "image/png"
    paste = server.call("POST", "api/links/pastes", {"body": "def f(): pass", "format": "code", "language": "python"})
    assert "def" in server.call("GET", f"api/links/pastes/{paste['id']}/html")["html"]
    kind, page = get(server, f"pastes/{paste['id']}", door=server.listener("links"))
    assert kind.startswith("text/html") and b"def" in page
    server.call("PUT", "api/limiter/policies/api", {"text": "100/minute"})
    assert server.call("POST", "api/ids", {"kind": "ulid"})["ids"]
