"""What the all-in-one server tells its stages: TLS for the gateway alone, whose port is open; traces for all;
no second call to a full engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc

from csm_bundle.errors import EngineBusyError
from services.all_in_one import one_utterance
from services.all_in_one import settings as all_in_one_settings
from services.all_in_one.settings import AllInOneSettings
from services.all_in_one.stage import start_all_in_one
from services.all_in_one.usage import usage
from services.all_in_one.variables import check_stages
from services.engine.async_engine import AsyncEngine, SequenceStream
from tests.services.all_in_one.conftest import small_settings
from tests.support.fake_deployment import failure


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


@pytest.mark.parametrize(("slots", "cpus", "expected"), [(0, 1, 4), (0, 2, 8), (0, 64, 16), (3, 64, 3), (100, 1, 100)])
def test_both_stages_have_slots_for_the_cpus_unless_told(
    monkeypatch: pytest.MonkeyPatch, slots: int, cpus: int, expected: int
) -> None:
    monkeypatch.setattr(all_in_one_settings, "usable_cpus", lambda: cpus)
    settings = AllInOneSettings(bundle="unused", slots=slots)
    assert settings.engine().slots == settings.codec().slots == expected


def test_unset_options_are_read_from_the_stages_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSM_CODEC_CACHE_DIR", "/elsewhere")
    assert AllInOneSettings(bundle="unused").codec().cache_dir == Path("/elsewhere")


async def test_a_call_that_the_only_engine_refuses_reaches_it_once(
    bundle: Path, keyring: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller is a plain one, for the project's clients retry."""
    asked: list[Any] = []

    async def refuse(self: AsyncEngine, *request: Any) -> SequenceStream:
        asked.append(request)
        raise EngineBusyError("The queue is full.")

    stage = await start_all_in_one(small_settings(bundle, keyring), lambda line: None)
    monkeypatch.setattr(AsyncEngine, "open", refuse)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.port}") as channel:
            stub: Any = tts_pb2_grpc.TextToSpeechServiceStub(channel)
            request = tts_pb2.StreamSynthesizeRequest(
                input=tts_pb2.SynthesisInput(text="Hello."),
                audio_config=tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM),
            )
            error = await failure(stub.StreamSynthesize(request, timeout=100))
        assert (error.reason, len(asked)) == ("QUEUE_FULL", 1)
    finally:
        await stage.stop()


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


def test_usage_names_the_page_where_it_is_on() -> None:
    shown = usage("127.0.0.1", 1, 2, "http://127.0.0.1:3", has_page=True)
    assert "page        http://127.0.0.1:3/ in a browser\n" in shown
    assert "page" not in usage("127.0.0.1", 1, 2, "http://127.0.0.1:3")


def test_usage_calls_over_tls_where_the_server_asks_for_it() -> None:
    shown = usage("127.0.0.1", 1, 2, "https://127.0.0.1:3", has_tls=True)
    assert "--target 127.0.0.1:1 --tls-ca ca.crt\n" in shown and 'Client("127.0.0.1:1", tls_ca=Path("ca.crt"))' in shown
    assert "from pathlib import Path\n              from csm_client import Client\n" in shown
    assert "curl --cacert ca.crt https://127.0.0.1:3/" in shown and "-cacert ca.crt 127.0.0.1:1 list" in shown
    assert [line.split()[0] for line in shown.splitlines() if "-plaintext" in line] == ["health"]


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


def test_wrong_variables_of_the_stages_stop_the_start_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A traceback after the model was loaded told of the first one."""
    check_stages(AllInOneSettings(bundle="unused", http_port=-1))
    monkeypatch.setenv("CSM_ENGINE_PREFILL_CHUNK", "0")
    monkeypatch.setenv("CSM_GATEWAY_MAX_TEXT_LENGTH", "long")
    with pytest.raises(SystemExit) as stopped:
        check_stages(AllInOneSettings(bundle="unused"))
    first, second = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert first.endswith("(CSM_ENGINE_PREFILL_CHUNK) must be greater than or equal to 1, but was given '0'.")
    assert "(CSM_GATEWAY_MAX_TEXT_LENGTH)" in second and second.endswith("but was given 'long'.")


def test_variables_of_the_stages_without_an_effect_are_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in (
        ("CSM_ENGINE_SLOTS", "2"),
        ("CSM_ENGINE_MAX_WAITING", "2"),
        ("CSM_GATEWAY_ENGINE_TARGET", "http://wrong"),
        ("CSM_CODEC_LANE_WIDHT", "2"),
    ):
        monkeypatch.setenv(name, value)
    check_stages(AllInOneSettings(bundle="unused"))
    assert [record.getMessage().partition(":")[0].partition(",")[0] for record in caplog.records] == [
        "CSM_ENGINE_SLOTS has no effect",
        "CSM_CODEC_LANE_WIDHT is set",
        "CSM_GATEWAY_ENGINE_TARGET has no effect",
    ]


def test_deadlines_are_those_of_the_stages_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSM_GATEWAY_DEFAULT_DEADLINE_SECONDS", "5")
    monkeypatch.setenv("CSM_HTTP_DEADLINE_SECONDS", "6")
    settings = AllInOneSettings(bundle="unused")
    assert (settings.gateway().default_deadline_seconds, settings.http().deadline_seconds) == (5, 6)


def test_say_has_no_limit_for_callers_that_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CSM_GATEWAY_AUTH_TOKENS_FILE", "tokens.json")
    monkeypatch.setenv("CSM_GATEWAY_MAX_STREAMS_PER_CALLER", "1")
    monkeypatch.setattr(one_utterance, "configure_logging", lambda *how: None)  # of the whole process
    assert one_utterance.run(["--text", "Hello.", "--bundle", "/nowhere"]) == 1
    assert "There is no folder /nowhere" in capsys.readouterr().err
