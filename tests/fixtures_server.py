"""`mainspring up` as its own process: the command line, the doors and the crash, as a stranger meets them."""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

READY_S = 60
STOP_S = 30
CALL_S = 120
"""On a starved machine the first request, for which a system is built, takes longer than one would think."""


class Server:
    """A running server. `address` ends in a slash; `token` is its one-click token; listeners take free ports."""

    def __init__(self, data: Path, systems: tuple[str, ...], settings: tuple[str, ...]) -> None:
        self.data = data
        options = [word for setting in settings for word in ("--set", setting)]
        self._command = [
            sys.executable,
            "-m",
            "mainspring",
            "up",
            *systems,
            "--data",
            str(data),
            "--port",
            "0",
            *options,
        ]
        self._errors = (data.parent / f"{data.name}.log").open("a+")
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment()
        )
        assert self.process.stdout is not None
        watchdog = _kill_after(self.process, READY_S)
        line = self.process.stdout.readline()
        watchdog.cancel()
        assert line.startswith("ready http://127.0.0.1:"), f"no address but {line!r}\n{self.log()}"
        self.address, _, self.token = line.removeprefix("ready ").strip().partition("?token=")

    def log(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-10_000:]

    def kill(self) -> None:
        """kill -9: nothing is finished, nothing is flushed."""
        self.process.kill()
        self.process.wait(STOP_S)

    def stop(self) -> int:
        """An orderly end; gives the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def listener(self, name: str) -> str:
        """The address of a system's own listener."""
        systems = self.call("GET", "-/systems")["systems"]
        return next(door["address"] for one in systems for door in one["listeners"] if door["name"] == name)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Calls the JSON API with the one-click token; raises `urllib.error.HTTPError`."""
        request = urllib.request.Request(
            self.address + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {self.token}", "content-type": "application/json", **headers},
        )
        with urllib.request.urlopen(request, timeout=CALL_S) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def command(self, *words: str) -> str:
        """Runs another command on the same data folder; gives its stdout."""
        return run_command(*words, "--data", str(self.data))


def environment() -> dict[str, str]:
    """This process's environment without any configuration of Mainspring."""
    return {key: value for key, value in os.environ.items() if not key.startswith("MAINSPRING_")}


def run_command(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mainspring", *words], capture_output=True, text=True, timeout=120, env=environment()
    )
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def _kill_after(process: subprocess.Popen[str], seconds: float) -> Any:
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    return timer


StartServer = Callable[..., Server]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers: `start_server("links", settings=("a.b=c",), data="name")`; all are stopped at the end."""
    started: list[Server] = []

    def start(*systems: str, settings: tuple[str, ...] = (), data: str = "data") -> Server:
        server = Server(tmp_path / data, systems, (*free_ports(settings), *settings))
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


def free_ports(settings: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Settings that give every listener a free port, but those whose port `settings` name."""
    from mainspring.core.manifest import manifests

    names = [spec.name for manifest in manifests().values() for spec in manifest.listeners]
    return tuple(f"ports.{name}=0" for name in names if not any(f"ports.{name}=" in one for one in settings))
