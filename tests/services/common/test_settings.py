"""Flags over environment over defaults; a bad value stops the start with a sentence."""

from __future__ import annotations

import pytest
from pydantic import Field, ValidationError
from pydantic_settings import SettingsConfigDict

from services.common.settings import ServingPort, StageSettings, load_settings, setting_names


class DemoSettings(StageSettings):
    model_config = SettingsConfigDict(env_prefix="CSM_DEMO_", cli_prog_name="demo")

    port: ServingPort = 50061
    queue_limit: int = Field(8, ge=1, description="Longest queue.")


def test_flag_beats_environment_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSM_DEMO_HEALTH_PORT", "7001")
    monkeypatch.setenv("CSM_DEMO_QUEUE_LIMIT", "3")
    settings = load_settings(DemoSettings, ["--queue-limit", "5", "--no-reflection"])
    assert (settings.queue_limit, settings.health_port, settings.port) == (5, 7001, 50061)
    assert settings.reflection is False


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--queue-limit", "0"], "--queue-limit (CSM_DEMO_QUEUE_LIMIT) must be greater than or equal to 1"),
        (["--port", "99999"], "--port (CSM_DEMO_PORT) must be less than or equal to 65535"),
        (["--port", "ten"], "--port (CSM_DEMO_PORT) must be a valid integer"),
        (["--log-format", "xml"], "--log-format (CSM_DEMO_LOG_FORMAT) must be 'text' or 'json'"),
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
    assert "Port of the API; 0 takes a free one." in text


def test_setting_names_lists_flags_and_variables() -> None:
    names = {name.flag: name for name in setting_names(DemoSettings)}
    assert names["--health-port"].variable == "CSM_DEMO_HEALTH_PORT"
    assert names["--reflection"].is_switch
    assert not names["--queue-limit"].is_switch


def test_settings_are_frozen_and_closed() -> None:
    with pytest.raises(ValidationError):
        DemoSettings(unknown_field=1)
    with pytest.raises(ValidationError):
        DemoSettings().port = 1
