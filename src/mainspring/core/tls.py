"""A certificate and its key, checked before a listener trusts them.

The HTTP server reads the files itself, in native code that reports a bad one badly; the other listeners take an
`ssl.SSLContext`. Both start here, so that a wrong path or a key that does not fit is one clear error at start.
"""

import ssl
from pathlib import Path

import msgspec


class TlsError(Exception):
    """The certificate or the key cannot be used; the text says which file and why."""


class Tls(msgspec.Struct, frozen=True):
    """PEM files: the certificate chain (leaf first) and its unencrypted private key; and the authorities that vouch for
    clients, which are then asked for a certificate and may do without."""

    certificate: Path
    key: Path
    clients: Path | None = None

    def context(self) -> ssl.SSLContext:
        """A server context of TLS 1.2 or later. Raises `TlsError`."""
        for path in filter(None, (self.certificate, self.key, self.clients)):
            try:
                path.open("rb").close()
            except OSError as error:
                raise TlsError(f"cannot read {path}: {error.strerror}") from error
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key, password=_refuse_password)
        except (ssl.SSLError, ValueError) as error:
            raise TlsError(f"{self.certificate} and {self.key} are not a certificate and its key: {error}") from error
        if self.clients is not None:
            try:
                context.load_verify_locations(self.clients)
            except ssl.SSLError as error:
                raise TlsError(f"{self.clients} holds no certificates: {error}") from error
            context.verify_mode = ssl.CERT_OPTIONAL
        return context


def _refuse_password() -> str:
    raise ValueError("the key is encrypted; give one without a passphrase")
