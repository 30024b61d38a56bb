"""`python -m services.http`: the HTTP server as a program."""

from __future__ import annotations

from typing import NoReturn

from services.common.process.grpc_lines import leave_out_grpc_news
from services.common.process.memory import return_large_blocks
from services.common.process.stop import end_at_signals


def main() -> NoReturn:
    end_at_signals()  # before the imports: they take seconds
    leave_out_grpc_news()
    return_large_blocks()
    from services.common.process.run import run_stage
    from services.common.settings import load_settings
    from services.common.telemetry.logs import configure_logging
    from services.http.settings import HttpSettings
    from services.http.stage import start_http

    settings = load_settings(HttpSettings)
    configure_logging(settings.log_format, settings.log_level)
    run_stage(lambda: start_http(settings))


if __name__ == "__main__":
    main()
