"""The line between a broker and its clients, which can be cut in one direction: what goes there arrives when it is mended.

That is how a cut looks to both ends: nothing is refused and nothing is lost yet, one of them just hears nothing any more. Who
gives up and connects anew leaves behind what was still on its way, which the other end gets late.
"""

import socket
import threading
from contextlib import suppress

PIECE_BYTES = 64 << 10


class Line:
    """Passes everything on until it is cut. `to_broker` and `to_clients` are clear while that direction is cut."""

    def __init__(self) -> None:
        self.to_broker, self.to_clients = threading.Event(), threading.Event()
        self.mend()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._listener.getsockname()[1]
        self._broker_port = 0

    def open(self, broker_port: int) -> int:
        """Begins to pass on to the broker; gives the port for clients."""
        self._broker_port = broker_port
        threading.Thread(target=self._accept, daemon=True).start()
        return self.port

    def mend(self) -> None:
        self.to_broker.set()
        self.to_clients.set()

    def close(self) -> None:
        self.mend()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(("127.0.0.1", self._broker_port))
            except OSError:
                client.close()
                continue
            for source, target, passes in ((client, broker, self.to_broker), (broker, client, self.to_clients)):
                threading.Thread(target=self._pass_on, args=(source, target, passes), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, passes: threading.Event) -> None:
        with suppress(OSError):
            while piece := source.recv(PIECE_BYTES):
                passes.wait()
                target.sendall(piece)
        passes.wait()
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)
