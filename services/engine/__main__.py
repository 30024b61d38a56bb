"""`python -m services.engine --bundle FOLDER`: the engine stage as a program."""

from __future__ import annotations

from typing import NoReturn

from services.common.process.grpc_lines import leave_out_grpc_news
from services.common.process.openmp import let_waiting_threads_sleep
from services.common.process.stop import end_at_signals


def main() -> NoReturn:
    end_at_signals()  # before the imports: they take seconds
    leave_out_grpc_news()
    let_waiting_threads_sleep()
    from services.common.process.run import run_stage
    from services.common.settings import load_settings
    from services.common.telemetry.logs import configure_logging
    from services.engine.settings import EngineSettings

    settings = load_settings(EngineSettings)
    configure_logging(settings.log_format, settings.log_level)  # before the imports: libraries log in theirs
    from services.engine.stage import start_engine  # after the settings: a wrong flag must not wait for torch

    run_stage(lambda: start_engine(settings))


if __name__ == "__main__":
    main()
