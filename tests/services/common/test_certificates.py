"""When a certificate expires, compared with the package `cryptography`."""

from __future__ import annotations

import base64
import textwrap
from datetime import UTC, datetime

import pytest

from services.common.certificates import certificate_end_s
from tests.support.authority import Authority, end_s


def element(tag: int, content: bytes) -> bytes:
    assert len(content) < 0x80
    return bytes([tag, len(content)]) + content


def pem(der: bytes) -> bytes:
    lines = textwrap.fill(base64.b64encode(der).decode(), 64)
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n".encode()


@pytest.mark.parametrize("year", [2027, 2049, 2050, 9999])  # from 2050 on the time has another format
def test_the_expiry_equals_an_independent_reader_s(year: int) -> None:
    ends = datetime(year, 12, 31, 23, 59, 58, tzinfo=UTC)
    _, certificate = Authority().issue(ends=ends)
    assert certificate_end_s(certificate) == end_s(certificate) == ends.timestamp()


def test_the_expiry_is_the_first_certificate_s_also_after_a_key() -> None:
    authority = Authority()
    key, certificate = authority.issue(ends=datetime(2031, 5, 6, tzinfo=UTC))
    assert certificate_end_s(key + certificate + authority.pem) == end_s(certificate)


def test_certificate_of_version_1_has_no_version_before_its_serial_number() -> None:
    begins, ends = element(0x17, b"991231235959Z"), element(0x17, b"491231235959Z")
    fields = element(0x02, b"\x01") + element(0x30, b"") + element(0x30, b"") + element(0x30, begins + ends)
    found = certificate_end_s(pem(element(0x30, element(0x30, fields))))
    assert found == datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("wrong", [b"", pem(b"no"), pem(b"\x30\x03\x30\x01\x02"), Authority().issue()[0]])
def test_a_file_without_a_certificate_is_an_error(wrong: bytes) -> None:
    with pytest.raises(ValueError, match="certificate"):
        certificate_end_s(wrong)
