"""Checks the settings of the stages before any of them starts, with the variables that they read themselves."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from pydantic import ValidationError

from services.all_in_one.settings import AllInOneSettings
from services.codec.settings import CodecSettings
from services.common.former_names import variable_of
from services.common.settings import ProgramSettings, describe_bad_settings, log_unknown_variables
from services.engine.settings import EngineSettings
from services.gateway.settings import GatewaySettings
from services.http.settings import HttpSettings

log = logging.getLogger("csm.all_in_one")

_TARGETS: dict[type[ProgramSettings], tuple[str, ...]] = {
    GatewaySettings: ("engine_target", "engine_health_target", "codec_target", "codec_health_target"),
    HttpSettings: ("gateway_target", "gateway_health_target"),
}


def check_stages(settings: AllInOneSettings) -> None:
    """Bad values of variables end the process as `load_settings` does. Those without an effect are logged."""
    stages: list[tuple[type[ProgramSettings], dict[str, Any]]] = [
        (EngineSettings, settings.of_engine()),
        (CodecSettings, settings.of_codec()),
        (GatewaySettings, settings.of_gateway()),
    ]
    if settings.http_port >= 0:
        stages.append((HttpSettings, settings.of_http()))
    wrong = ""
    for stage, values in stages:
        own = values | dict.fromkeys(_TARGETS.get(stage, ()), "localhost")  # the stages know them when they start
        try:
            stage(**own)
        except ValidationError as error:
            of = stage.__module__.split(".")[1]  # such as "engine"
            wrong += describe_bad_settings(stage, error, of)
        log_unknown_variables(stage, listed_by="docs/settings.md")
        for variable in sorted({variable_of(stage, field) for field in own} & os.environ.keys()):
            log.warning("%s has no effect: this server sets it itself, from its own settings", variable)
    if wrong:
        sys.stderr.write(wrong)
        raise SystemExit(2)
