"""The data folder: owned by one process at a time, with a Unix socket by which commands ask the owner.

The lock is the kernel's (`flock`), so it goes with the process however that ends. The socket speaks one JSON object a line,
`{"do": name, ...}` answered by `{"ok": ...}` or `{"error": text}`; its folder is readable by its owner only, and that is
what guards it.
"""

import asyncio
import fcntl
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

Action = Callable[[dict[str, Any]], Awaitable[Any]]
_LINE_BYTES_MAX = 1 << 20


class DataLocked(RuntimeError):
    """Another process owns this folder; `pid` is its process id where it is known."""

    def __init__(self, folder: Path, pid: int | None) -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(f"{folder} is in use by {who}; stop that one or choose another folder with --data")
        self.pid = pid


class ControlError(RuntimeError):
    """The owner of the folder answered with an error."""


class Unreachable(ControlError):
    """Nobody answers at the folder's socket."""


class DataFolder:
    """The folder `path`, made where it is missing and locked until `close`. Raises `DataLocked`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(self._lock, 20, 0).decode("ascii", "replace").strip()
            os.close(self._lock)
            raise DataLocked(path, int(text) if text.isdecimal() else None) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, b"%d\n" % os.getpid(), 0)
        self._server: asyncio.Server | None = None
        self._folder_fd: int | None = None

    async def listen(self, actions: dict[str, Action]) -> None:
        """Answers commands on the control socket."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                request = msgspec.json.decode(await asyncio.wait_for(reader.readuntil(b"\n"), 10), type=dict[str, Any])
                action = actions.get(request.pop("do", ""))
                if action is None:
                    raise ControlError("this server does not know that command; is it of another version?")
                answer = {"ok": await action(request)}
            except Exception as error:
                answer = {"error": str(error) or type(error).__name__}
            writer.write(msgspec.json.encode(answer) + b"\n")
            try:
                await writer.drain()
            finally:
                writer.close()

        (self.path / "control.sock").unlink(missing_ok=True)
        # A socket's name has 107 bytes at most, a folder's path has more: the kernel knows a short one.
        self._folder_fd = os.open(self.path, os.O_PATH | os.O_CLOEXEC)
        door = socket.socket(socket.AF_UNIX)
        door.bind(f"/proc/self/fd/{self._folder_fd}/control.sock")
        os.chmod(self.path / "control.sock", 0o600)
        self._server = await asyncio.start_unix_server(serve, sock=door, limit=_LINE_BYTES_MAX)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            (self.path / "control.sock").unlink(missing_ok=True)
        if self._folder_fd is not None:
            os.close(self._folder_fd)
        os.close(self._lock)


def ask(folder: Path, do: str, timeout_s: float = 60, **arguments: Any) -> Any:
    """Asks the process that owns `folder`. Raises `ControlError` with its reason, `Unreachable` without one."""
    try:
        folder_fd = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise Unreachable(f"there is no data in {folder}: {error.strerror}") from None
    try:
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(timeout_s)
            door.connect(f"/proc/self/fd/{folder_fd}/control.sock")
            door.sendall(msgspec.json.encode({"do": do, **arguments}) + b"\n")
            with door.makefile("rb") as lines:
                answer = msgspec.json.decode(lines.readline() or b'{"error": "it closed the connection"}')
    except OSError as error:
        raise Unreachable(f"the server that owns {folder} does not answer: {error}") from None
    finally:
        os.close(folder_fd)
    if "error" in answer:
        raise ControlError(answer["error"])
    return answer["ok"]
