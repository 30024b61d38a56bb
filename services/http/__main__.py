"""`python -m services.http`: the HTTP door as a program."""

from __future__ import annotations

import sys

from services.common.stop import end_at_sigterm


def main() -> int:
    end_at_sigterm()  # before the imports: they take seconds
    from services.common.run import run_stage
    from services.common.settings import load_settings
    from services.http.settings import HttpSettings
    from services.http.stage import start_http

    settings = load_settings(HttpSettings)
    return run_stage(settings, lambda: start_http(settings))


if __name__ == "__main__":
    sys.exit(main())
