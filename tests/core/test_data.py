"""One process owns a data folder; others ask it over its socket."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mainspring.core.data import ControlError, DataFolder, DataLocked, ask


async def test_a_second_owner_is_refused_with_the_first_ones_process_id(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    with pytest.raises(DataLocked, match=f"process {os.getpid()}"):
        DataFolder(tmp_path)
    await folder.close()
    await DataFolder(tmp_path).close()


async def test_the_lock_goes_with_a_killed_process(tmp_path: Path) -> None:
    owns = "import pathlib, sys; from mainspring.core.data import DataFolder; folder = DataFolder(pathlib.Path(sys.argv[1]))"
    program = (sys.executable, "-c", f"{owns}; print(1, flush=True); input()", str(tmp_path))
    child = await asyncio.create_subprocess_exec(*program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout and await child.stdout.readline()
    with pytest.raises(DataLocked, match=str(child.pid)):
        DataFolder(tmp_path)
    child.kill()
    await child.wait()
    await DataFolder(tmp_path).close()


async def test_commands_are_answered_over_the_socket_even_in_a_very_deep_folder(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100) / ("y" * 100)
    folder = DataFolder(deep)

    async def double(request: dict[str, Any]) -> int:
        return request["n"] * 2

    await folder.listen({"double": double})
    assert await asyncio.to_thread(ask, deep, "double", n=21) == 42
    with pytest.raises(ControlError, match="does not know"):
        await asyncio.to_thread(ask, deep, "halve")
    with pytest.raises(ControlError, match="n"):
        await asyncio.to_thread(ask, deep, "double")
    assert (deep / "control.sock").stat().st_mode & 0o777 == 0o600
    await folder.close()
    with pytest.raises(ControlError, match="does not answer"):
        await asyncio.to_thread(ask, deep, "double", n=1)
