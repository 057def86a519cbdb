"""The two brokers of the log's benchmark: the real Kafka and ours, each as its user starts it, each on the same one core."""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.load import SERVER_CPU, pinned_to
from tests.fixtures_kafka import KafkaBroker, answers_api_versions, free_ports

PATIENCE_S = 120.0


class Ours:
    """`mainspring up log`. `flush_policy` is `commit` or `async`."""

    def __init__(self, flush_policy: str) -> None:
        self._flush_policy = flush_policy
        self._folder = Path(tempfile.mkdtemp(prefix="bench-log-"))
        self.port = 0
        self.pid = 0
        self.start_s = 0.0

    def start(self) -> None:
        (self.port,) = free_ports(1)
        options = [f"log.flush_policy={self._flush_policy}", f"ports.kafka={self.port}"]
        settings = [word for option in options for word in ("--set", option)]
        arguments = ["up", "log", "--data", str(self._folder), "--port", "0", "--quiet", *settings]
        begun = time.perf_counter()
        with pinned_to(SERVER_CPU):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mainspring", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        while not answers_api_versions(self.port):
            if self._process.poll() is not None or time.perf_counter() - begun > PATIENCE_S:
                raise RuntimeError("our broker did not start")
            time.sleep(0.005)
        self.start_s = time.perf_counter() - begun
        self.pid = self._process.pid

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        shutil.rmtree(self._folder, ignore_errors=True)


class Kafka:
    """The real one; `flush_policy` `commit` syncs every record's segment before it is acknowledged."""

    def __init__(self, flush_policy: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="bench-kafka-"))
        synced = {"log.flush.interval.messages": "1"} if flush_policy == "commit" else {}
        self._broker = KafkaBroker(self._folder, synced)
        self.start_s = 0.0

    @property
    def port(self) -> int:
        return self._broker.port

    @property
    def pid(self) -> int:
        return self._broker.pid

    def start(self) -> None:
        with pinned_to(SERVER_CPU):
            self._broker.start()
        self.start_s = self._broker.start_s

    def stop(self) -> None:
        self._broker.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def resident_mb(pid: int) -> float:
    """What a process holds in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1000
