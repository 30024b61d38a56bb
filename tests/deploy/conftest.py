"""The three stages as their programs describe them: what Dockerfiles and manifests are compared against."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from services.codec.settings import CodecSettings
from services.common.settings import StageSettings
from services.engine.settings import EngineSettings
from services.gateway.settings import GatewaySettings

# For formats of addresses that no schema here checks, kubernetes_validate would make grammars for three seconds.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def settings_classes() -> Mapping[str, type[StageSettings]]:
    return {"gateway": GatewaySettings, "engine": EngineSettings, "codec": CodecSettings}


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).parents[2]
