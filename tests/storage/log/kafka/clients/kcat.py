"""What a user of kcat, the swiss army knife of the command line, does and sees."""

import subprocess
from typing import Any

from tests.needs import need_program

Seen = list[tuple[str, Any]]
PATIENCE_S = 120


def run(address: str, name: str) -> Seen:
    program = need_program("kcat", "kafkacat")

    def kcat(*words: str, given: str = "") -> str:
        done = subprocess.run(
            [program, "-b", address, *words],
            input=given,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        lines = "".join(f"key{number}:{codec} {number} {'x' * 300}\n" for number in range(30))
        kcat("-P", "-t", name, "-p", "0", "-K", ":", "-z", codec, "-H", f"codec={codec}", given=lines)
    everything = kcat("-C", "-t", name, "-p", "0", "-o", "beginning", "-e", "-q", "-f", "%p %o %k %s %h\n")
    some = kcat("-C", "-t", name, "-p", "0", "-o", "47", "-c", "3", "-q", "-f", "%o %k\n")
    last = kcat("-C", "-t", name, "-p", "0", "-o", "-2", "-e", "-q", "-f", "%o %k\n")
    asked = kcat("-Q", "-t", f"{name}:0:-1", "-t", f"{name}:0:-2")
    listed = kcat("-L", "-t", name).replace(address, "here")
    return [
        ("everything", everything.splitlines()),
        ("some", some),
        ("last", last),
        ("offsets", asked.splitlines()),
        ("listed", [line.strip() for line in listed.splitlines() if "topic" in line or "partition" in line]),
    ]
