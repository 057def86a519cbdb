"""Java for tests: programs of `tests/peers/kafka`, compiled once, and Kafka's own tools, all in one machine that stays warm."""

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures_kafka import PATIENCE_S, POM, kafka_classpath
from tests.needs import need_program

QUICK = ("-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m")
QUIET = "-Dlog4j2.level=OFF"
"""Kafka's clients would log to the standard output, among what a tool prints."""
TOOLS = "org.apache.kafka.tools"
TOOL_S = 2 * PATIENCE_S
"""How long a tool may take: a bound on a slow machine, never a measure."""


class JavaTools:
    """Runs tools by the names of their main classes. For any thread; one tool runs at a time."""

    def __init__(self, classpath: str) -> None:
        self._command = [
            "java",
            *QUICK,
            QUIET,
            "--add-opens",
            "java.base/java.lang=ALL-UNNAMED",
            "-cp",
            classpath,
            "Tools",
        ]
        self._turn = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def run(self, main: str, *words: str, given: str = "") -> str:
        """Runs a tool to its end; gives what it printed. Raises `AssertionError` where it fails."""
        with self._turn:
            answer = self._ask({"main": main, "words": words, "given": given})
        assert answer["code"] == 0, f"{main} {words}: {answer['printed'][-3000:]} {answer['errors'][-3000:]}"
        printed: str = answer["printed"]
        return printed

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _ask(self, call: dict[str, Any]) -> Any:
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
            )
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        too_late = threading.Timer(TOOL_S, process.kill)
        too_late.start()
        try:
            process.stdin.write(json.dumps(call) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        finally:
            too_late.cancel()
        if not answer:
            self.stop()
            raise AssertionError(f"{call['main']} did not end within {TOOL_S} s, or its machine died: {call['words']}")
        return json.loads(answer)


class JavaProgram:
    """A program of ours in a machine of its own, so that it can be killed. What it logs goes to `log`."""

    def __init__(self, classpath: str, log: Path, main: str, *words: str) -> None:
        self._command = ["java", *QUICK, "-cp", classpath, main, *words]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """As kill -9 does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log(self) -> str:
        return self._log.read_text(errors="replace")


@pytest.fixture(scope="session")
def java_classpath() -> Iterator[str]:
    """Kafka, and our programs beside it, which are compiled with the JDK's `javac`."""
    kafka, javac = kafka_classpath(), need_program("javac")
    with tempfile.TemporaryDirectory(prefix="ms-java-") as folder:
        sources = [str(path) for path in sorted(POM.parent.glob("*.java"))]
        subprocess.run(
            [javac, *(f"-J{word}" for word in QUICK), "-nowarn", "-cp", kafka, "-d", folder, *sources],
            check=True,
            timeout=TOOL_S,
        )
        yield os.pathsep.join((folder, kafka))


@pytest.fixture(scope="session")
def java_tools(java_classpath: str) -> Iterator[JavaTools]:
    """The machine for Kafka's tools, once a session."""
    tools = JavaTools(java_classpath)
    yield tools
    tools.stop()
