"""Who has a port: what Linux tells in `/proc`, for the error message that saves its reader the search."""

import os
from pathlib import Path

_LISTENING = {"tcp": "0A", "udp": "07"}


def port_holder(port: int, *, udp: bool = False) -> str:
    """`name (process 1234)` of a process that has the port open, `another process` where it belongs to somebody else and
    cannot be named, and the empty string where the system does not say."""
    protocol = "udp" if udp else "tcp"
    inodes = {inode for version in ("", "6") for inode in _inodes(f"/proc/net/{protocol}{version}", port, protocol)}
    if not inodes:
        return ""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            for descriptor in os.scandir(process / "fd"):
                if os.readlink(descriptor.path) in wanted:
                    name = (process / "comm").read_text().strip()
                    return f"{name} (process {process.name})"
        except OSError:
            continue  # Another user's process, or one that has ended meanwhile.
    return "another process"


def _inodes(table: str, port: int, protocol: str) -> list[str]:
    try:
        lines = Path(table).read_text().splitlines()[1:]
    except OSError:
        return []
    rows = [line.split() for line in lines]
    suffix = f":{port:04X}"
    return [row[9] for row in rows if row[1].endswith(suffix) and row[3] == _LISTENING[protocol]]
