"""TLS between stages and their callers: certificate, key and authorities, read from files.

It knows no stage. Replaced files take effect at the next handshake of a server, and at the next call of a client, once
they are read. If a file is invalid, the last valid ones stay in use. Client certificates cannot be optional: gRPC for
Python either requires them or does not ask for them.
"""

from __future__ import annotations

import codecs
import math
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import grpc

from services.common.certificates import certificate_end_s
from services.common.followed_files import FollowedFiles

T = TypeVar("T")

Show = Callable[[Callable[[], float]], None]  # takes a function that returns the certificate's expiry as Unix time


class TlsFileError(OSError):
    """A file of the TLS settings cannot be used; the message names its flag."""


class Loaded(NamedTuple, Generic[T]):
    """The content of the files."""

    credentials: T
    certificate_end_s: float  # Unix time; NaN without a certificate of its own


def server_credentials(
    certificate: Path, key: Path, client_ca: Path | None, on_reload: Callable[[bool], None], show_end: Show
) -> grpc.ServerCredentials:
    """Credentials that reload changed files. on_reload: see FollowedFiles. Raises TlsFileError."""

    def load() -> Loaded[grpc.ServerCertificateConfiguration]:
        pair = _read_pair("--tls-certificate", certificate, "--tls-key", key)
        roots = None if client_ca is None else _read_authorities("--tls-client-ca", client_ca)
        configuration = grpc.ssl_server_certificate_configuration([pair], roots)
        return Loaded(configuration, read_end_s("--tls-certificate", certificate, pair[1]))

    paths = [path for path in (certificate, key, client_ca) if path is not None]
    files = FollowedFiles(paths, load, on_reload=on_reload)  # handshakes ask it from threads of the library
    newest = files.current
    show_end(lambda: files.current.certificate_end_s)

    def changed() -> grpc.ServerCertificateConfiguration | None:
        """None for no change, also when the new files are wrong: raising would break every handshake."""
        nonlocal newest
        before, newest = newest, files.current
        return None if newest is before else newest.credentials

    require = client_ca is not None
    return grpc.dynamic_ssl_server_credentials(newest.credentials, changed, require)  # type: ignore[arg-type]  # stubs forget None


def stage_credentials(
    ca: Path,
    certificate: Path | None,
    key: Path | None,
    on_reload: Callable[[bool], None] = lambda usable: None,
    show_end: Show = lambda end: None,
) -> FollowedFiles[Loaded[grpc.ChannelCredentials]]:
    """Credentials of channels to other stages, which follow the files.

    ca: who signs the stages; certificate, key: the caller's own, when they ask for one. on_reload: see FollowedFiles

    Raises TlsFileError.
    """

    def load() -> Loaded[grpc.ChannelCredentials]:
        roots = _read_authorities("--stage-tls-ca", ca)
        if certificate is None or key is None:
            return Loaded(grpc.ssl_channel_credentials(roots), math.nan)
        pair = _read_pair("--stage-tls-certificate", certificate, "--stage-tls-key", key)
        end_s = read_end_s("--stage-tls-certificate", certificate, pair[1])
        return Loaded(grpc.ssl_channel_credentials(roots, *pair), end_s)

    paths = [path for path in (ca, certificate, key) if path is not None]
    files = FollowedFiles(paths, load, on_reload=on_reload)
    if certificate is not None:
        show_end(lambda: files.current.certificate_end_s)
    return files


def read_end_s(flag: str, path: Path, pem: bytes) -> float:
    """The expiry of the first certificate of `pem`, the content of `path`, as Unix time. Raises TlsFileError."""
    try:
        return certificate_end_s(pem)
    except ValueError as error:
        raise TlsFileError(f"{flag} {path}: {error}") from None


def _read_pair(certificate_flag: str, certificate: Path, key_flag: str, key: Path) -> tuple[bytes, bytes]:
    """(key, certificate)"""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # The empty password makes an encrypted key an error instead of a question on the terminal.
        context.load_cert_chain(certificate, key, password="")
        return _read_pem(key), _read_pem(certificate)
    except OSError as error:  # SSLError is one
        raise TlsFileError(
            f"{certificate_flag} {certificate} and {key_flag} {key} must be a PEM certificate chain and"
            f" its unencrypted key: {error}"
        ) from None


def _read_authorities(flag: str, path: Path) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(path)
        return _read_pem(path)
    except OSError as error:
        raise TlsFileError(f"{flag} {path} must hold PEM certificates: {error}") from None


def _read_pem(path: Path) -> bytes:
    """The content without the byte order mark that some editors write, which OpenSSL skips and gRPC does not."""
    return path.read_bytes().removeprefix(codecs.BOM_UTF8)
