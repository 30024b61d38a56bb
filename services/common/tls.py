"""TLS of the API port: certificate, key and the authority of clients, read from files and again when those change.

A file that is replaced counts from the next handshake on; one that is wrong leaves the last good ones in use. It knows
no stage. gRPC for Python either requires client certificates or does not ask for them, so there is no optional one.
"""

from __future__ import annotations

import logging
import ssl
import threading
from pathlib import Path

import grpc

log = logging.getLogger("csm.tls")


class TlsFileError(OSError):
    """A file of the TLS settings cannot be used; the message names its flag."""


class ServerTls:
    """The files, and credentials that follow them."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._lock = threading.Lock()  # handshakes ask from threads of the library
        self._seen = self._stamps()

    def credentials(self) -> grpc.ServerCredentials:
        """Raises TlsFileError when a file cannot be used."""
        return grpc.dynamic_ssl_server_credentials(
            self._load(),
            self._changed,  # type: ignore[arg-type]  # the stubs forget that None is no change
            self._client_ca is not None,
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """None for no change, also when the new files are wrong: raising would break every handshake."""
        with self._lock:
            stamps = self._stamps()
            if stamps == self._seen:
                return None
            self._seen = stamps
            try:
                loaded = self._load()
            except TlsFileError as error:
                log.error("the old certificate stays in use: %s", error)
                return None
            log.info("a new certificate is in use: %s", self._certificate)
            return loaded

    def _load(self) -> grpc.ServerCertificateConfiguration:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # The empty password makes an encrypted key an error instead of a question on the terminal.
            context.load_cert_chain(self._certificate, self._key, password="")
            pair = (self._key.read_bytes(), self._certificate.read_bytes())
        except OSError as error:  # SSLError is one
            raise TlsFileError(
                f"--tls-certificate {self._certificate} and --tls-key {self._key} must be a PEM certificate chain and"
                f" its unencrypted key: {error}"
            ) from None
        roots = None
        if self._client_ca is not None:
            try:
                context.load_verify_locations(self._client_ca)
                roots = self._client_ca.read_bytes()
            except OSError as error:
                raise TlsFileError(f"--tls-client-ca {self._client_ca} must hold PEM certificates: {error}") from None
        return grpc.ssl_server_certificate_configuration([pair], roots)

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(path) for path in (self._certificate, self._key, self._client_ca) if path is not None]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What differs once the file was written or replaced, as Kubernetes replaces secrets by a link; None: missing."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_ino, stat.st_size)
