"""A throw-away certificate authority for tests of TLS. It needs `cryptography`, which no stage does."""

from __future__ import annotations

import datetime
import ipaddress
import uuid
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_OTHER_USES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "encipher_only", "decipher_only",
)  # fmt: skip


class Authority:
    """Its certificates are valid for an hour unless `ends` says otherwise."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"test CA {uuid.uuid4()}")])
        is_ca = x509.BasicConstraints(ca=True, path_length=None)
        uses = dict.fromkeys(_OTHER_USES, False) | {"key_cert_sign": True, "crl_sign": True}
        self.pem = self._sign(self._name, self._key, is_ca, x509.KeyUsage(**uses), is_critical=True)

    def issue(self, name: str = "localhost", ends: datetime.datetime | None = None) -> tuple[bytes, bytes]:
        """A new (key, certificate) in PEM for a name; for "localhost" also for 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        names = [x509.DNSName(name), loopback] if name == "localhost" else [x509.DNSName(name)]
        certificate = self._sign(subject, key, x509.SubjectAlternativeName(names), ends=ends)
        plain = serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        return pem, certificate

    def write(self, folder: Path) -> dict[str, Any]:
        """Writes a new key and certificate. Returns the server settings that name them."""
        return write_pair(folder, *self.issue())

    def write_ca(self, folder: Path, name: str = "ca.crt") -> Path:
        """Writes the authority's own certificate."""
        (folder / name).write_bytes(self.pem)
        return folder / name

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *extensions: x509.ExtensionType,
        ends: datetime.datetime | None = None,
        is_critical: bool = False,
    ) -> bytes:
        """Adds the identifiers of both keys, without which Python from 3.13 on trusts no certificate."""
        now = datetime.datetime.now(datetime.UTC)
        ends = ends or now + datetime.timedelta(hours=1)
        builder = x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(ends)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=is_critical)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def write_pair(folder: Path, key: bytes, certificate: bytes) -> dict[str, Any]:
    """Writes a key and its certificate. Returns the server settings that name them."""
    folder.mkdir(exist_ok=True)
    (folder / "tls.key").write_bytes(key)
    (folder / "tls.crt").write_bytes(certificate)
    return {"tls_certificate": folder / "tls.crt", "tls_key": folder / "tls.key"}


def end_s(pem: bytes) -> float:
    """Unix time at which the first certificate of the file expires."""
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
