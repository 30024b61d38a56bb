"""What the all-in-one server tells its stages: TLS for the gateway alone, whose port is open; traces for all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from services.all_in_one.settings import AllInOneSettings
from services.all_in_one.usage import usage


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


def test_both_stages_take_the_bundle_of_one_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSM_CODEC_CACHE_DIR", "/elsewhere")
    settings = AllInOneSettings(
        bundle="someone/voice", revision="v2", offline=True, cache_dir=Path("/cache"), threads=3
    )
    for stage in (settings.engine(), settings.codec()):
        said = (stage.bundle, stage.revision, stage.offline, stage.cache_dir, stage.threads)
        assert said == ("someone/voice", "v2", True, Path("/cache"), 3)


def test_unset_options_are_read_from_the_stages_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSM_CODEC_CACHE_DIR", "/elsewhere")
    assert AllInOneSettings(bundle="unused").codec().cache_dir == Path("/elsewhere")


def test_a_call_that_the_only_engine_refuses_is_not_sent_to_it_again() -> None:
    assert AllInOneSettings(bundle="unused").gateway().max_full_replicas == 0


def test_all_stages_send_traces_to_one_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSM_ENGINE_TRACE_ENDPOINT", "http://elsewhere:4317")
    traced = AllInOneSettings(bundle="unused", trace_endpoint="http://collector:4317", trace_sample_share=0.25)
    for stage in (traced.engine(), traced.codec(), traced.gateway()):
        assert (stage.trace_endpoint, stage.trace_sample_share) == ("http://collector:4317", 0.25)
    assert AllInOneSettings(bundle="unused").engine().trace_endpoint is None


@pytest.mark.parametrize(
    ("host", "target"), [("0.0.0.0", "127.0.0.1:1"), ("10.1.2.3", "10.1.2.3:1"), ("::", "[::1]:1"), ("::1", "[::1]:1")]
)
def test_usage_names_a_target_that_can_be_called(host: str, target: str) -> None:
    assert f"Ready on {target}." in usage(host, 1, 2)


def test_usage_names_the_path_of_csm_in_a_virtual_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert "activate" not in usage("127.0.0.1", 1, 2)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "activate").touch()
    assert f". {tmp_path}/bin/activate\n" in usage("127.0.0.1", 1, 2)


def test_the_engine_takes_the_lexicon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSM_ENGINE_LEXICON", "engine.tsv")
    assert AllInOneSettings(bundle="unused").engine().lexicon == Path("engine.tsv")
    assert AllInOneSettings(bundle="unused", lexicon=Path("mine.tsv")).engine().lexicon == Path("mine.tsv")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has this device")
def test_a_full_disk_behind_standard_output_does_not_stop_the_server() -> None:
    program = "from services.all_in_one.usage import show; show('Ready.')"
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == "standard output cannot be written: [Errno 28] No space left on device\n"
