"""`python -m services.all_in_one.say --bundle FOLDER --text "Hello." --out hello.wav`: one command, text to speech."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from services.common.process.grpc_lines import leave_out_grpc_news
from services.common.process.openmp import let_waiting_threads_sleep
from services.common.process.stop import end_at_once


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. arguments: the command line when None"""
    leave_out_grpc_news()
    let_waiting_threads_sleep()
    try:
        from services.all_in_one.one_utterance import run
    except KeyboardInterrupt:  # it takes seconds
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT

    return run(arguments)


if __name__ == "__main__":
    code = main()
    if sys.stdout is not None:
        sys.stdout.flush()  # audio, however slowly it is read
    end_at_once(code)  # waits for no thread that hangs in a file system
