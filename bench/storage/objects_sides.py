"""The servers of the object store's benchmark, each as its user starts it on a folder: ours, `versitygw`, MinIO and S3Proxy.

A peer is found on the path, or by a variable of its name (`VERSITYGW`, `MINIO`), or in the cache of peers, which is filled
once by `go install` or Maven where those are there. One that cannot be had is said by name, and left out.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from mainspring.wire.aws import sigv4
from tests.fixtures_kafka import peers_folder

BUCKET = "bench"
PATIENCE_S = 60.0
INSTALL_S_MAX = 900
S3PROXY = "2.7.0"
S3PROXY_POM = Path(__file__).resolve().parents[2] / "tests" / "peers" / "s3proxy" / "pom.xml"


class Missing(Exception):
    """A peer that cannot be had here; the text says why."""


class Side:
    """A server under load: its port and the key pair that requests to it are signed with."""

    def __init__(self, name: str, port: int, access_key: str, secret: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self.port = port
        self.process = process
        self._access_key = access_key
        self._secret = secret

    def signed(
        self, method: str, path: str, body: bytes = b"", query: Sequence[tuple[str, str]] = (), **headers: str
    ) -> bytes:
        """A whole request."""
        now_s = time.time()
        given = {"host": f"127.0.0.1:{self.port}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        scope = sigv4.Scope(self._access_key, sigv4.date_of(now_s)[:8], "us-east-1", "s3")
        made = sigv4.authorize(method, path, query, given, scope, self._secret, now_s, sigv4.UNSIGNED)
        target = f"{path}?{sigv4.canonical_query(query)}" if query else path
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in made.items())]
        return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body

    def make_bucket(self) -> None:
        """The first answer: raises `OSError` where nobody listens yet."""
        request = self.signed("PUT", f"/{BUCKET}")
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as connection:
            connection.sendall(request)
            answer = connection.recv(4096)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(f"{self.name} is not ready: {answer[:200]!r}")


@contextmanager
def ours() -> Iterator[Side]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIRECTORY")) as data:
        options = ["--data", data, "--port", "0", "--set", "ports.s3=0", "--quiet"]
        process = subprocess.Popen(
            [sys.executable, "-m", "mainspring", "up", "objects", *options], stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            address, _, token = ready.removeprefix("ready ").strip().partition("?token=")
            request = urllib.request.Request(address + "-/systems", headers={"authorization": f"Bearer {token}"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                systems = json.load(answer)["systems"]
            door = next(door for one in systems for door in one["listeners"] if door["name"] == "s3")
            port = int(door["address"].rstrip("/").rpartition(":")[2])
            words = [sys.executable, "-m", "mainspring", "token", "create", "objects", "--json", "--data", data]
            keys = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
            side = Side("mainspring", port, keys["access_key"], keys["secret_key"], process)
            side.make_bucket()
            yield side
        finally:
            process.terminate()
            process.wait(30)


def peers() -> tuple[list[Callable[[], AbstractContextManager[Side]]], list[str]]:
    """How to start each peer that is here, and why the others are not."""
    found: list[Callable[[], AbstractContextManager[Side]]] = []
    absent = []
    for name, find in (("versitygw", _versitygw), ("MinIO", _minio), ("S3Proxy", _s3proxy)):
        try:
            found.append(partial(_started, name, find()))
        except Missing as reason:
            absent.append(f"{name}: {reason}")
    return found, absent


Command = Callable[[int, Path], tuple[list[str], dict[str, str]]]
"""`(port, folder)` → the words that start a peer, and what to add to its environment."""


@contextmanager
def _started(name: str, command: Command) -> Iterator[Side]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIRECTORY")) as data:
        words, environment = command(port, Path(data))
        process = subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, env=os.environ | environment
        )
        try:
            side = Side(name, port, "bench", "benchbench", process)
            deadline = time.monotonic() + PATIENCE_S
            while True:
                try:
                    side.make_bucket()
                    break
                except OSError:
                    if time.monotonic() > deadline or process.poll() is not None:
                        raise
                    time.sleep(0.01)
            yield side
        finally:
            process.terminate()
            process.wait(30)


def _versitygw() -> Command:
    program = _go_program("versitygw", "github.com/versity/versitygw/cmd/versitygw")

    def command(port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        keys = ["--access", "bench", "--secret", "benchbench"]
        return [program, "--port", f"127.0.0.1:{port}", *keys, "--quiet", "--keep-alive", "posix", str(folder)], {}

    return command


def _minio() -> Command:
    """The last public one: archived, and run as a peer only."""
    program = _go_program("minio", "github.com/minio/minio")

    def command(port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        environment = {"MINIO_ROOT_USER": "bench", "MINIO_ROOT_PASSWORD": "benchbench", "MINIO_BROWSER": "off"}
        return [program, "server", "--quiet", "--address", f"127.0.0.1:{port}", str(folder)], environment

    return command


def _s3proxy() -> Command:
    java = shutil.which("java")
    if java is None:
        raise Missing("needs Java")
    jars = peers_folder() / f"s3proxy-{S3PROXY}"
    if not jars.exists():
        _fetch_jars(jars)

    def command(port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        objects = folder / "objects"
        objects.mkdir()
        properties = {
            "s3proxy.endpoint": f"http://127.0.0.1:{port}",
            "s3proxy.authorization": "aws-v2-or-v4",
            "s3proxy.identity": "bench",
            "s3proxy.credential": "benchbench",
            "jclouds.provider": "filesystem-nio2",
            "jclouds.identity": "bench",
            "jclouds.credential": "benchbench",
            "jclouds.filesystem.basedir": str(objects),
        }
        file = folder / "s3proxy.conf"
        file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        return [java, "-cp", f"{jars}/*", "org.gaul.s3proxy.Main", "--properties", str(file)], {}

    return command


def _go_program(name: str, module: str) -> str:
    if found := os.environ.get(name.upper()) or shutil.which(name):
        return found
    kept = peers_folder() / "go"
    if not (kept / name).exists():
        go = shutil.which("go")
        if go is None:
            raise Missing(f"needs `go install {module}@latest`, or {name.upper()} to say where it is")
        kept.mkdir(parents=True, exist_ok=True)
        _run([go, "install", f"{module}@latest"], {"GOBIN": str(kept)})
    return str(kept / name)


def _fetch_jars(jars: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise Missing("needs Maven to fetch it")
    jars.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix="new-", dir=jars.parent))
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={unfinished}"]
    try:
        _run([maven, "-q", "-B", "-f", str(S3PROXY_POM), *goal], {})
        unfinished.rename(jars)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _run(words: list[str], environment: dict[str, str]) -> None:
    try:
        subprocess.run(
            words, env=os.environ | environment, capture_output=True, text=True, check=True, timeout=INSTALL_S_MAX
        )
    except subprocess.CalledProcessError as error:
        raise Missing(f"{words[0]} refused: {(error.stdout + error.stderr).strip()[-200:]}") from None
    except subprocess.TimeoutExpired:
        raise Missing(f"{words[0]} took over {INSTALL_S_MAX} s") from None
