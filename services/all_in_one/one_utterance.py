"""Starts the three stages, lets the client say one thing over real gRPC, and stops them.

Options that it does not know itself are the server's.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from csm_client import AsyncClient
from csm_client.command.argument_types import deadline, utf8
from csm_client.command.cli import INTERRUPTED, add_say_options, exit_code_of
from csm_client.command.say import say

from csm_bundle.errors import CsmError
from services.all_in_one.settings import LOOPBACK, AllInOneSettings
from services.all_in_one.stage import start_all_in_one
from services.all_in_one.variables import check_stages
from services.common.settings import load_settings
from services.common.telemetry.logs import configure_logging

DEADLINE_S = 600.0  # a laptop may be slower than real time


def run(arguments: Sequence[str] | None) -> int:
    """Returns the exit code. arguments: the command line when None"""
    parsed, server_arguments = _parser().parse_known_args(arguments)
    settings = load_settings(AllInOneSettings, server_arguments)
    level = settings.log_level if "log_level" in settings.model_fields_set else "error"
    configure_logging(settings.log_format, level)
    # This server has one caller: it needs no more, and must not collide with a server that already runs.
    plain = dict.fromkeys(("tls_certificate", "tls_key", "tls_client_ca"))
    for of_other_callers in ("CSM_GATEWAY_AUTH_TOKENS_FILE", "CSM_GATEWAY_MAX_STREAMS_PER_CALLER"):
        os.environ.pop(of_other_callers, None)
    private = settings.model_copy(
        update={"host": LOOPBACK, "port": 0, "health_port": 0, "metrics_port": -1, "http_port": -1, "slots": 1, **plain}
    )
    check_stages(private)
    try:
        return asyncio.run(_serve_and_say(private, parsed))
    except (CsmError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


async def _serve_and_say(settings: AllInOneSettings, parsed: Namespace) -> int:
    started_s = time.monotonic()
    stage = await start_all_in_one(settings, _tell)
    try:
        _tell(f"ready after {time.monotonic() - started_s:.1f} s")
        parsed.target = f"{LOOPBACK}:{stage.server.port}"
        async with AsyncClient(parsed.target, timeout_s=parsed.deadline) as client:
            return await exit_code_of(say(client, parsed), parsed.target)
    finally:
        await stage.stop()


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m services.all_in_one.say",
        description="Starts engine, codec and gateway, says one thing, stops them.",
        epilog="Further options are those of python -m services.all_in_one, such as --bundle and --device.",
        allow_abbrev=False,
    )
    parser.add_argument("--text", type=utf8, required=True, help="what to say")
    parser.add_argument("--deadline", type=deadline, default=DEADLINE_S, help="seconds (default: %(default)g)")
    add_say_options(parser)
    return parser
