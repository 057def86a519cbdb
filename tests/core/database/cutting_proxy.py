"""Stands between PostgreSQL and its client, and cuts the line at the worst moment: while COMMIT is under way."""

import selectors
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Literal

Cut = Literal["before", "after", "stalled"]


class CuttingProxy:
    """Listens as a PostgreSQL in `folder` would, and passes everything on to the server in `server_folder`.

    `cut` says what happens to the next COMMIT of a transaction that has written: the line breaks `before` it reaches the
    server, or `after` the server has done it and before the client hears so; or only the client's side breaks, and the
    COMMIT is still on its way (`stalled`) until `deliver_late`.
    """

    def __init__(self, folder: Path, server_folder: Path) -> None:
        self._server_address = str(server_folder / ".s.PGSQL.5432")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen(64)
        self._late: list[tuple[socket.socket, bytes]] = []
        self._lock = threading.Lock()
        self.cut: Cut | None = None
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def deliver_late(self) -> bool:
        """Gives the server a COMMIT that was on its way; gives whether the server took it."""
        taken = False
        while self._late:
            server, data = self._late.pop()
            with server, suppress(OSError):
                server.sendall(data)
                taken |= b"COMMIT" in _receive(server)
        return taken

    def close(self) -> None:
        self._listener.close()
        self.deliver_late()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._server_address)
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ)
            selector.register(server, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    source = client if key.fileobj is client else server
                    data = _receive(source)
                    cut = self._take_cut(data) if source is client else None
                    if cut == "stalled":
                        self._late.append((server, data))
                        client.close()
                        return
                    if cut == "after":
                        server.sendall(data)
                        _receive(server)
                    if cut or not data:
                        client.close()
                        server.close()
                        return
                    (server if source is client else client).sendall(data)

    def _take_cut(self, data: bytes) -> Cut | None:
        if b"core_write_marks" not in data or b"; COMMIT" not in data:
            return None
        with self._lock:
            cut, self.cut = self.cut, None
            self.cuts += cut is not None
            return cut


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(1 << 16)
    except OSError:
        return b""
