"""TLS between stages and their callers: certificate, key and authorities, read from files.

It knows no stage. A server uses a replaced file from the next handshake on, a caller of other stages from the next call
on. When a file is wrong, the last good ones stay in use. gRPC for Python either requires client certificates or does
not ask for them, so they cannot be optional.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

import grpc

from services.common.watched_files import WatchedFiles

log = logging.getLogger("csm.tls")


class TlsFileError(OSError):
    """A file of the TLS settings cannot be used; the message names its flag."""


class ServerTls:
    """The files, and credentials that follow them."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        paths = [path for path in (certificate, key, client_ca) if path is not None]
        self._files = WatchedFiles(paths, self._load)  # handshakes ask it from threads of the library

    def credentials(self) -> grpc.ServerCredentials:
        """Raises OSError when a file cannot be used."""
        return grpc.dynamic_ssl_server_credentials(
            self._files.load(),
            self._changed,  # type: ignore[arg-type]  # the stubs forget that None is no change
            self._client_ca is not None,
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """None for no change, also when the new files are wrong: raising would break every handshake."""
        try:
            loaded = self._files.load_changed()
        except OSError as error:
            log.error("the old certificate stays in use: %s", error)
            return None
        if loaded is not None:
            log.info("a new certificate is in use: %s", self._certificate)
        return loaded

    def _load(self) -> grpc.ServerCertificateConfiguration:
        pair = _read_pair("--tls-certificate", self._certificate, "--tls-key", self._key)
        roots = None if self._client_ca is None else _read_authorities("--tls-client-ca", self._client_ca)
        return grpc.ssl_server_certificate_configuration([pair], roots)


class StageTls:
    """The files of channels to other stages, and credentials that follow them."""

    def __init__(self, ca: Path, certificate: Path | None, key: Path | None) -> None:
        """ca: who signs the stages; certificate, key: the caller's own, when they ask for one"""
        self._ca, self._own = ca, None if certificate is None or key is None else (certificate, key)
        self._files = WatchedFiles([ca, *(self._own or ())], self._load)

    def credentials(self) -> grpc.ChannelCredentials:
        """Raises TlsFileError when a file cannot be used."""
        return self._files.load()

    def changed_credentials(self) -> grpc.ChannelCredentials | None:
        """None for no change, also when the new files are wrong, which is logged once."""
        try:
            return self._files.load_changed()
        except OSError as error:
            log.error("the old files stay in use: %s", error)
            return None

    def _load(self) -> grpc.ChannelCredentials:
        roots = _read_authorities("--stage-tls-ca", self._ca)
        if self._own is None:
            return grpc.ssl_channel_credentials(roots)
        certificate, key = self._own
        pair = _read_pair("--stage-tls-certificate", certificate, "--stage-tls-key", key)
        return grpc.ssl_channel_credentials(roots, *pair)


def _read_pair(certificate_flag: str, certificate: Path, key_flag: str, key: Path) -> tuple[bytes, bytes]:
    """(key, certificate)"""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # The empty password makes an encrypted key an error instead of a question on the terminal.
        context.load_cert_chain(certificate, key, password="")
        return key.read_bytes(), certificate.read_bytes()
    except OSError as error:  # SSLError is one
        raise TlsFileError(
            f"{certificate_flag} {certificate} and {key_flag} {key} must be a PEM certificate chain and"
            f" its unencrypted key: {error}"
        ) from None


def _read_authorities(flag: str, path: Path) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(path)
        return path.read_bytes()
    except OSError as error:
        raise TlsFileError(f"{flag} {path} must hold PEM certificates: {error}") from None
