"""What the all-in-one server tells its stages about TLS: only the gateway's port leaves the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.all_in_one.settings import AllInOneSettings


def test_only_the_gateway_takes_the_certificate() -> None:
    settings = AllInOneSettings(bundle="unused", tls_certificate=Path("tls.crt"), tls_key=Path("tls.key"))
    assert settings.gateway().tls_certificate == Path("tls.crt")
    assert settings.engine().tls_certificate is None and settings.codec().tls_certificate is None


def test_variables_of_deployed_stages_do_not_reach_those_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    for stage in ("ENGINE", "CODEC"):
        monkeypatch.setenv(f"CSM_{stage}_TLS_CERTIFICATE", "tls.crt")
        monkeypatch.setenv(f"CSM_{stage}_TLS_KEY", "tls.key")
    monkeypatch.setenv("CSM_GATEWAY_STAGE_TLS_CA", "ca.crt")
    monkeypatch.setenv("CSM_GATEWAY_AUTH_TOKENS_FILE", "tokens.json")
    settings = AllInOneSettings(bundle="unused")
    assert settings.engine().tls_certificate is None and settings.codec().tls_certificate is None
    assert settings.gateway().stage_tls_ca is None
    assert settings.gateway().auth_tokens_file == Path("tokens.json")
