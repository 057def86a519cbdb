"""The real Kafka broker, and ours, for one and the same script to run against.

The real one is started once a session from Maven artifacts, which a cache folder keeps; ours runs in a thread of its own with
its own loop, so that clients that block and clients that do not can both be used beside it.
"""

import asyncio
import base64
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from tests.needs import missing, need_program

T = TypeVar("T")
PATIENCE_S = 120.0
"""How long a broker may take to start or to stop: a bound on a slow machine, never a measure."""
TRIES = 3
VERSION = "4.2.0"
POM = Path(__file__).parent / "peers" / "kafka" / "pom.xml"


def peers_folder() -> Path:
    """Where what comes from outside Python is kept from run to run."""
    if named := os.environ.get("MAINSPRING_PEERS"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mainspring-peers"


def kafka_classpath() -> str:
    """What `java -cp` takes for Kafka and its tools; fetched once, three tries."""
    need_program("java")
    folder = peers_folder() / f"kafka-{VERSION}"
    if not folder.exists():
        _fetch(folder)
    return f"{folder}/*"


def _fetch(folder: Path) -> None:
    """Fills the folder under another name first, so that a run that was cut short leaves nothing that looks finished."""
    mvn = need_program("mvn")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix="new-", dir=folder.parent))
    command = [mvn, "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", "-DincludeScope=runtime"]
    for _ in range(TRIES):
        done = subprocess.run(
            [*command, f"-DoutputDirectory={unfinished}"], capture_output=True, text=True, timeout=900, check=False
        )
        if done.returncode == 0:
            break
    else:
        shutil.rmtree(unfinished, ignore_errors=True)
        missing(f"needs Kafka's artifacts from Maven: {(done.stdout + done.stderr)[-500:]}")
    try:
        unfinished.rename(folder)
    except OSError:
        # Another run was first.
        shutil.rmtree(unfinished, ignore_errors=True)


class KafkaBroker:
    """One node of the real Kafka, controller and broker in one. `settings` are more lines of `server.properties`."""

    def __init__(self, folder: Path, settings: dict[str, str] | None = None) -> None:
        self._folder = folder
        self._settings = settings or {}
        self._classpath = kafka_classpath()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.start_s = 0.0
        """How long the broker itself took to its first answer."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns once a request has been answered. A port that somebody else took meanwhile is worth another try."""
        for last in (False, False, True):
            try:
                self._start()
                return
            except RuntimeError:
                self.stop()
                if last:
                    raise

    def _start(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self.port, controller = free_ports(2)
        properties = self._folder / "server.properties"
        properties.write_text("\n".join(f"{key}={value}" for key, value in self._properties(controller).items()) + "\n")
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        arguments = ["format", "--config", str(properties), "--cluster-id", cluster, "--ignore-formatted"]
        subprocess.run(
            ["java", "-cp", self._classpath, "kafka.tools.StorageTool", *arguments],
            check=True,
            capture_output=True,
            timeout=PATIENCE_S,
        )
        begun = time.monotonic()
        with (self._folder / "kafka.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["java", "-Xms256m", "-Xmx1g", "-cp", self._classpath, "kafka.Kafka", str(properties)],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
            )
        deadline_s = time.monotonic() + PATIENCE_S
        while not answers_api_versions(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"Kafka did not start:\n{(self._folder / 'kafka.log').read_text()[-3000:]}")
            time.sleep(0.02)
        self.start_s = time.monotonic() - begun

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _properties(self, controller: int) -> dict[str, str]:
        listener = f"PLAINTEXT://127.0.0.1:{self.port}"
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"{listener},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": listener,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(self._folder / "data"),
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
        } | self._settings


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now; Kafka cannot be told to take any and say which."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def answers_api_versions(port: int) -> bool:
    """Whether a broker there answers its first request."""
    request = b"\x00\x12\x00\x00\x00\x00\x00\x01\x00\x01p"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(len(request).to_bytes(4, "big") + request)
            return len(client.recv(8)) == 8
    except OSError:
        return False


class OurBroker:
    """Our engine, coordinators and door on one port, in a thread with a loop of its own."""

    def __init__(
        self,
        folder: Path,
        *,
        settings: Any = None,
        log_settings: Any = None,
        ssl: Any = None,
        find_token: Any = None,
        make_listener: Any = None,
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._log_settings = log_settings
        self._ssl = ssl
        self._find_token = find_token
        self._make_listener = make_listener
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self.port = 0
        self.broker: Any = None
        self.listener: Any = None
        self.log: Any = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self._started.clear()
        self._thread = threading.Thread(target=self._run, name="our broker", daemon=True)
        self._thread.start()
        if not self._started.wait(PATIENCE_S):
            raise RuntimeError("our broker did not start")
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        if self._thread is not None and self._failure is None:
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join(PATIENCE_S)
            assert not self._thread.is_alive(), "our broker did not stop"
        self._thread = None

    def call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Runs `work()` on the broker's own loop."""
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(PATIENCE_S)

    def _run(self) -> None:
        try:
            uvloop.run(self._serve())
        except BaseException as failure:
            self._failure = failure
            self._started.set()

    async def _serve(self) -> None:
        from mainspring.core.clock import SystemClock
        from mainspring.storage.log.groups.settings import GroupSettings
        from mainspring.storage.log.kafka.broker import Broker
        from mainspring.storage.log.kafka.listener import Listener
        from mainspring.storage.log.service import Log

        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        clock = SystemClock()
        self.log = Log(self._folder, clock, settings=self._log_settings, groups=GroupSettings())
        await self.log.start()
        self.broker = Broker(
            self.log.engine,
            clock,
            self._folder / "kafka.json",
            settings=self._settings,
            directories=[self._folder],
            groups=self.log.groups,
            transactions=self.log.transactions,
            find_token=self._find_token,
        )
        self.listener = (self._make_listener or Listener)(self.broker)
        server = await self._loop.create_server(self.listener, "127.0.0.1", self.port, ssl=self._ssl)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._ending.wait()
        server.close()
        await self.log.stop()


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaBroker]:
    """The real Kafka, once a session: leave it running, and name topics and groups for yourself."""
    folder = Path(tempfile.mkdtemp(prefix="ms-kafka-"))
    broker = KafkaBroker(folder)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[OurBroker]:
    """Our own broker, empty."""
    broker = OurBroker(tmp_path / "log")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def make_ours(tmp_path: Path) -> Iterator[Callable[..., OurBroker]]:
    """Starts brokers of ours: `make_ours(settings=…)`; all are stopped at the end."""
    made: list[OurBroker] = []

    def make(name: str = "log", **options: Any) -> OurBroker:
        broker = OurBroker(tmp_path / name, **options)
        broker.start()
        made.append(broker)
        return broker

    yield make
    for broker in made:
        broker.stop()
