"""`python -m services.codec --bundle FOLDER`: the codec stage as a program."""

from __future__ import annotations

from typing import NoReturn

from services.common.process.grpc_lines import leave_out_grpc_news
from services.common.process.openmp import let_waiting_threads_sleep
from services.common.process.stop import end_at_signals


def main() -> NoReturn:
    end_at_signals()  # before the imports: they take seconds
    leave_out_grpc_news()
    let_waiting_threads_sleep()
    from services.codec.settings import CodecSettings
    from services.common.process.run import run_stage
    from services.common.settings import load_settings
    from services.common.telemetry.logs import configure_logging

    settings = load_settings(CodecSettings)
    configure_logging(settings.log_format, settings.log_level)  # before the imports: libraries log in theirs
    from services.codec.stage import start_codec  # after the settings: a wrong flag must not wait for torch

    run_stage(lambda: start_codec(settings))


if __name__ == "__main__":
    main()
