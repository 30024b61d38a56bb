"""Flags override the environment, which overrides defaults; a bad value is an error in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import pytest
from pydantic import Field, ValidationError
from pydantic_settings import SettingsConfigDict

from services.codec.settings import CodecSettings
from services.common.settings import ProgramSettings, ServingPort, StageSettings, load_settings, setting_names
from services.engine.settings import EngineSettings
from services.gateway.settings import GatewaySettings
from services.http.settings import HttpSettings


class DemoSettings(StageSettings):
    model_config = SettingsConfigDict(env_prefix="CSM_DEMO_", cli_prog_name="demo")

    port: ServingPort = 50061
    queue_limit: int = Field(8, ge=1, description="Longest queue.")


class RenamedSettings(DemoSettings):
    former_names: ClassVar[Mapping[str, str]] = {"longest_queue": "queue_limit"}


@pytest.mark.parametrize("arguments", [["--longest-queue", "5"], ["--longest-queue=5"]])
def test_former_flag_works_and_warns_once(arguments: list[str], caplog: pytest.LogCaptureFixture) -> None:
    assert load_settings(RenamedSettings, ["--longest-queue=4", *arguments]).queue_limit == 5
    assert [record.getMessage() for record in caplog.records] == [
        "--longest-queue is now --queue-limit; the former name will not work in the next release"
    ]


@pytest.mark.parametrize("load", [lambda: load_settings(RenamedSettings, []), RenamedSettings])
def test_former_variable_works_and_warns_once(
    load: Callable[[], RenamedSettings], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CSM_DEMO_LONGEST_QUEUE", "5")
    assert load().queue_limit == 5
    assert [record.getMessage() for record in caplog.records] == [
        "CSM_DEMO_LONGEST_QUEUE is now CSM_DEMO_QUEUE_LIMIT; the former name will not work in the next release"
    ]


def test_present_names_beat_former_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSM_DEMO_LONGEST_QUEUE", "5")
    monkeypatch.setenv("CSM_DEMO_QUEUE_LIMIT", "6")
    assert load_settings(RenamedSettings, []).queue_limit == 6
    assert load_settings(RenamedSettings, ["--queue-limit", "7"]).queue_limit == 7


def test_bad_value_under_a_former_name_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CSM_DEMO_LONGEST_QUEUE", "0")
    with pytest.raises(SystemExit):
        load_settings(RenamedSettings, [])
    assert "--queue-limit (CSM_DEMO_QUEUE_LIMIT) must be greater than or equal to 1" in capsys.readouterr().err


@pytest.mark.parametrize("settings_class", [EngineSettings, CodecSettings, GatewaySettings])
def test_former_names_lead_to_settings(settings_class: type[StageSettings]) -> None:
    fields = set(settings_class.model_fields)
    assert set(settings_class.former_names.values()) <= fields
    assert not set(settings_class.former_names) & fields


def test_an_unknown_variable_is_reported(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise a misspelled one would have no effect, and a gateway without its tokens would accept everybody."""
    for name in ("CSM_DEMO_QUEUE_LIMT", "CSM_DEMO_QUEUE_LIMIT", "csm_demo_log_format", "CSM_DEMONSTRATION"):
        monkeypatch.setenv(name, "json" if name.endswith("format") else "5")
    load_settings(DemoSettings, [])
    assert [record.getMessage() for record in caplog.records] == [
        "CSM_DEMO_QUEUE_LIMT is set, but no setting has this variable; --help lists all variables"
    ]


def test_flag_beats_environment_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSM_DEMO_HEALTH_PORT", "7001")
    monkeypatch.setenv("CSM_DEMO_QUEUE_LIMIT", "3")
    settings = load_settings(DemoSettings, ["--queue-limit", "5", "--no-reflection"])
    assert (settings.queue_limit, settings.health_port, settings.port) == (5, 7001, 50061)
    assert settings.reflection is False


def test_variables_have_any_case_and_only_the_program_s_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("csm_demo_Queue_Limit", "3")
    monkeypatch.setenv("CSM_HEALTH_PORT", "7001")
    monkeypatch.setenv("HEALTH_PORT", "7002")
    settings = DemoSettings()
    assert (settings.queue_limit, settings.health_port) == (3, 0)
    assert DemoSettings(queue_limit=4).queue_limit == 4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--queue-limit", "0"], "--queue-limit (CSM_DEMO_QUEUE_LIMIT) must be greater than or equal to 1"),
        (["--port", "99999"], "--port (CSM_DEMO_PORT) must be less than or equal to 65535"),
        (["--port", "ten"], "--port (CSM_DEMO_PORT) must be a valid integer"),
        (["--log-format", "xml"], "--log-format (CSM_DEMO_LOG_FORMAT) must be 'text' or 'json'"),
        (
            ["--trace-endpoint", "collector:4317"],
            "--trace-endpoint (CSM_DEMO_TRACE_ENDPOINT) must be http://HOST:PORT or https://HOST:PORT,"
            " but was given 'collector:4317'",
        ),
        (["--trace-sample-share", "1.5"], "--trace-sample-share (CSM_DEMO_TRACE_SAMPLE_SHARE) must be less than or"),
        (["--trace-sample-share", "-0.1"], "(CSM_DEMO_TRACE_SAMPLE_SHARE) must be greater than or equal to 0"),
        (["--trace-sample-share", "half"], "--trace-sample-share (CSM_DEMO_TRACE_SAMPLE_SHARE) must be a valid number"),
        (["--nonsense", "1"], "unrecognized arguments: --nonsense"),
    ],
)
def test_bad_value_stops_the_start_and_names_the_flag(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        load_settings(DemoSettings, arguments)
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("endpoint", "is_address"),
    [
        ("http://collector:4317", True),
        ("https://collector.example.com:443/", True),
        ("http://[::1]:4317", True),
        ("", False),
        ("http://collector", False),
        ("http://collector:0", False),
        ("http://collector:99999", False),
        ("http://:4317", False),
        ("grpc://collector:4317", False),
        ("http://collector:4318/v1/traces", False),
        ("http://name:secret@collector:4317", False),
    ],
)
def test_trace_endpoint_is_scheme_host_and_port(endpoint: str, is_address: bool) -> None:
    if is_address:
        assert DemoSettings(trace_endpoint=endpoint).trace_endpoint == endpoint
    else:
        with pytest.raises(ValidationError):
            DemoSettings(trace_endpoint=endpoint)


def test_bad_environment_value_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CSM_DEMO_DRAIN_SECONDS", "-1")
    with pytest.raises(SystemExit) as stopped:
        load_settings(DemoSettings, [])
    assert stopped.value.code == 2
    assert "CSM_DEMO_DRAIN_SECONDS" in capsys.readouterr().err


def test_help_shows_every_flag_with_its_description(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        load_settings(DemoSettings, ["--help"])
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in setting_names(DemoSettings):
        assert name.flag in text
    assert "Port of the API; 0 takes a free port." in text


@pytest.mark.parametrize("settings_class", [GatewaySettings, EngineSettings, CodecSettings, HttpSettings])
def test_help_begins_with_what_starts_the_program(
    settings_class: type[ProgramSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        load_settings(settings_class, ["--help"])
    stage = settings_class.__module__.split(".")[1]
    assert capsys.readouterr().out.startswith(f"usage: python -m services.{stage} ")


def test_setting_names_lists_flags_and_variables() -> None:
    names = {name.flag: name for name in setting_names(DemoSettings)}
    assert names["--health-port"].variable == "CSM_DEMO_HEALTH_PORT"


def test_settings_are_frozen_and_closed() -> None:
    with pytest.raises(ValidationError):
        DemoSettings.model_validate({"unknown_field": 1})
    with pytest.raises(ValidationError):
        DemoSettings().port = 1  # type: ignore[misc]
