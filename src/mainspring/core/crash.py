"""Crash points: the places where a process may die between two steps that belong together.

Code that promises something across a crash calls `crash_point("log.append.written")` between its steps. Where the environment
says `MAINSPRING_CRASH_AT=log.append.written:3`, the third time that point is reached the process kills itself as `kill -9`
would; without it a point costs one call. The tests list all points by reading the sources, so none is forgotten.
"""

import os
import signal

VARIABLE = "MAINSPRING_CRASH_AT"

_name, _, _time = os.environ.get(VARIABLE, "").partition(":")
_left = int(_time or 1)


def _armed(name: str) -> None:
    global _left
    if name == _name:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _idle(name: str) -> None:
    pass


crash_point = _armed if _name else _idle
