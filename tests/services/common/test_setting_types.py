"""Settings that look right and could never work are refused at the start, with what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.all_in_one.settings import AllInOneSettings
from services.codec.settings import CodecSettings
from services.common.setting_types import expanded
from services.common.settings import ProgramSettings, load_settings
from services.engine.settings import EngineSettings
from services.gateway.settings import GatewaySettings
from services.http.settings import HttpSettings

TARGET = "a gRPC target, such as engine:50061 or dns:///engine:50061"


def refusal(settings_class: type[ProgramSettings], capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said of the arguments."""
    with pytest.raises(SystemExit) as stopped:
        load_settings(settings_class, arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_an_empty_path_is_not_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CSM_GATEWAY_VOICES_FOLDER", "")
    said = "--voices-folder (CSM_GATEWAY_VOICES_FOLDER) must be a path, but was given ''"
    assert said in refusal(GatewaySettings, capsys)


def test_the_word_none_does_not_unset_a_setting() -> None:
    """Otherwise a gateway without its tokens would accept everybody."""
    assert load_settings(GatewaySettings, ["--auth-tokens-file", "None"]).auth_tokens_file == Path("None")


def test_a_path_may_begin_with_a_home_directory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert load_settings(GatewaySettings, ["--auth-tokens-file=~/t"]).auth_tokens_file == Path("/home/ada/t")
    said = "must be a path whose ~ has a home directory, but was given '~no-such-user/t'"
    assert said in refusal(GatewaySettings, capsys, "--tls-key", "~no-such-user/t")
    with pytest.raises(OSError, match="~no-such-user/t: there is no home directory"):
        expanded(Path("~no-such-user/t"))


def test_an_empty_host_is_refused_and_does_not_mean_all_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--host (CSM_HTTP_HOST) must be an address or a name" in refusal(HttpSettings, capsys, "--host", "[]")
    assert "must be at least one character long, but was given ''" in refusal(HttpSettings, capsys, "--host", "")
    assert load_settings(AllInOneSettings, ["--bundle", "b", "--http-host", "[::1]"]).http_host == "::1"


@pytest.mark.parametrize(
    "target",
    [
        "engine", "engine:50061", "[::1]:50061", "::1", "localhost:https", "dns:engine:1", "dns://10.0.0.1/engine:1",
        "ipv4:10.0.0.1:1,10.0.0.2:2", "ipv6:[::1]:1,[::2]:2", "unix:/run/engine", "unix-abstract:a", "xds:///engine",
    ],
)  # fmt: skip
def test_targets_of_grpc_are_allowed(target: str) -> None:
    assert GatewaySettings(engine_target=target).engine_target == target


@pytest.mark.parametrize(
    "target",
    [
        "http://engine:50061", "two words", "engine:50061\n", "dns:///", "dns:///engine:grpc", ":50061", "engine:",
        "engine:0", "engine:65536", "127.0.0.1:99999", "ipv4:10.0.0.1:1,",
    ],
)  # fmt: skip
def test_a_target_that_no_call_could_reach_is_refused(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """gRPC would look it up as the name of a host, and the gateway would wait for ever without a word."""
    said = refusal(GatewaySettings, capsys, "--codec-health-target", target)
    assert f"--codec-health-target (CSM_GATEWAY_CODEC_HEALTH_TARGET) must be {TARGET}" in said
    assert said.endswith(f"but was given {target!r}.\n")


BUNDLE = ("--bundle", "b")


@pytest.mark.parametrize(
    ("settings_class", "arguments", "said"),
    [
        (GatewaySettings, ("--health-port", "50051"), "--port and --health-port are both 50051; they must differ."),
        (HttpSettings, ("--metrics-port", "8000"), "--port and --metrics-port are both 8000; they must differ."),
        (
            AllInOneSettings,
            (*BUNDLE, "--http-port", "9460"),
            "--metrics-port and --http-port are both 9460; they must differ.",
        ),
        (
            GatewaySettings,
            ("--min-first-audio-seconds", "3", "--max-deadline-seconds", "2.5"),
            "--min-first-audio-seconds (3) must be less than --max-deadline-seconds (2.5)",
        ),
        (GatewaySettings, ("--stage-silence-seconds", "1.9"), "must be 0 or at least 2, but was given '1.9'"),
        (
            EngineSettings,
            (*BUNDLE, "--max-playout-lead-seconds", "0.159"),
            "must be 0 or at least 0.16, which are two frames, but was given '0.159'",
        ),
        (EngineSettings, (*BUNDLE, "--max-receive-message-bytes", "1024"), "greater than or equal to 1048576"),
        (CodecSettings, (*BUNDLE, "--max-receive-message-bytes", "1024"), "greater than or equal to 1048576"),
        (CodecSettings, (*BUNDLE, "--device", "gpu"), "--device (CSM_CODEC_DEVICE) must be cpu, cuda or cuda:NUMBER"),
        (
            HttpSettings,
            ("--voice-aliases", "a=x, b=y, a=z"),
            "must be alias=voice, separated by commas, each alias once",
        ),
        (HttpSettings, ("--cors-origins", "*,example.org"), "must be * or origins as browsers send them"),
        (HttpSettings, ("--cors-origins", "https://example.org/"), "such as https://example.org, separated by commas"),
        (HttpSettings, ("--allowed-hosts", "a.example,b.example:8000"), "must be * or names without scheme and port"),
    ],
)
def test_settings_that_have_no_effect_or_contradict_each_other_are_refused(
    settings_class: type[ProgramSettings], arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refusal(settings_class, capsys, *arguments)


@pytest.mark.parametrize(
    "settings",
    [
        {"port": 0, "metrics_port": 0},
        {"cors_origins": " https://a.example , http://[::1]:8000, capacitor://localhost, null, *,"},
        {"allowed_hosts": "a.example, ::1 ,10.0.0.7,*,"},
    ],
)
def test_free_ports_origins_of_applications_and_addresses_are_allowed(settings: dict[str, Any]) -> None:
    assert HttpSettings(**settings)
