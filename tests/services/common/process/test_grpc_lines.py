"""gRPC's core writes no line of news to standard error, in every program."""

from __future__ import annotations

import os

import pytest

from services.common.process.grpc_lines import leave_out_grpc_news
from tests.services.common.process.conftest import ChosenBy

VERBOSITY = "GRPC_VERBOSITY"


@pytest.mark.parametrize("program", ["engine", "codec", "gateway", "http", "all_in_one"])
def test_programs_choose_before_grpc_is_imported(program: str, chosen_by: ChosenBy) -> None:
    """Where nobody reads standard error, a handshake that failed stopped gRPC, and SIGTERM did not end the process."""
    assert chosen_by(program, VERBOSITY) == "ERROR"


def test_the_environment_may_choose_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VERBOSITY, "INFO")
    leave_out_grpc_news()
    assert os.environ[VERBOSITY] == "INFO"
