"""A broker that is killed and comes again: at a crash point, or when the test says so.

The socket is the test's, so each broker is at the address of the one before, with no port to lose; clients that come between
two of them wait in its backlog.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from mainspring.core.crash import VARIABLE
from tests.storage.log.line import Line


class UndyingBroker:
    """One process after the other, the next as soon as one has died. Each of `crashes` is where one of the first dies.

    With a `line` clients come over it, at `address`.
    """

    def __init__(self, folder: Path, crashes: Sequence[str] = (), line: Line | None = None) -> None:
        self._folder = folder
        self._crashes = list(crashes)
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=100)
        port = self._socket.getsockname()[1]
        self._advertised = () if line is None else (str(line.open(port)),)
        self.address = f"127.0.0.1:{port if line is None else line.port}"
        self.exits: list[int] = []
        """How each process before the one that runs has ended."""
        self._stopping = False
        self._child = self._start()
        self._watch = threading.Thread(target=self._follow)
        self._watch.start()

    @property
    def deaths(self) -> int:
        return len(self.exits)

    def send(self, what: signal.Signals) -> None:
        """SIGKILL is a crash, SIGTERM an orderly end, and the next is on its way; SIGSTOP pauses until SIGCONT."""
        self._child.send_signal(what)

    def stop(self) -> None:
        self._stopping = True
        self._child.kill()
        self._watch.join()
        self._socket.close()

    def _start(self) -> subprocess.Popen[bytes]:
        environment = dict(os.environ)
        if self._crashes:
            environment[VARIABLE] = self._crashes.pop(0)
        handle = self._socket.fileno()
        command = [
            sys.executable,
            "-m",
            "tests.storage.log.broker_child",
            str(self._folder),
            str(handle),
            *self._advertised,
        ]
        return subprocess.Popen(command, env=environment, pass_fds=[handle])

    def _follow(self) -> None:
        while True:
            code = self._child.wait()
            if self._stopping:
                return
            self.exits.append(code)
            self._child = self._start()
