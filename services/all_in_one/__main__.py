"""`python -m services.all_in_one --bundle FOLDER`: all stages and the HTTP door until Ctrl-C."""

from __future__ import annotations

import logging
from typing import NoReturn

from services.common.process.grpc_lines import leave_out_grpc_news
from services.common.process.openmp import let_waiting_threads_sleep
from services.common.process.stop import end_at_signals

log = logging.getLogger("csm.all_in_one")


def main() -> NoReturn:
    end_at_signals()  # before the imports: they take seconds
    leave_out_grpc_news()
    let_waiting_threads_sleep()
    from services.all_in_one.settings import AllInOneSettings
    from services.all_in_one.stage import AllInOneStage, start_all_in_one
    from services.all_in_one.usage import show, usage
    from services.all_in_one.variables import check_stages
    from services.common.process.run import run_stage
    from services.common.settings import load_settings
    from services.common.telemetry.logs import configure_logging

    settings = load_settings(AllInOneSettings)
    configure_logging(settings.log_format, settings.log_level)
    check_stages(settings)

    async def start() -> AllInOneStage:
        stage = await start_all_in_one(settings, log.info)
        ports = (stage.server.port, stage.server.health_port)
        url = stage.http.url if stage.http is not None else ""
        has_page = stage.http is not None and stage.http.settings.page
        show(usage(settings.host, *ports, url, has_page=has_page, has_tls=settings.tls_certificate is not None))
        return stage

    run_stage(start)


if __name__ == "__main__":
    main()
