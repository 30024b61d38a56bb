"""Killed gateways of tests leave no processes behind."""

from __future__ import annotations

import json
import subprocess
import sys

import psutil

SERVE = """
import time
from tests.support.network import gateway_forks

gateway_forks.serve(lambda arguments, log: time.sleep(3600))
"""


def test_gateways_end_when_the_tests_that_started_them_end_without_killing_them() -> None:
    with subprocess.Popen([sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as forks:
        assert forks.stdin is not None and forks.stdout is not None
        forks.stdin.write(json.dumps({"arguments": [], "log": ""}).encode() + b"\n")
        forks.stdin.flush()
        gateway = psutil.Process(json.loads(forks.stdout.readline()))
        try:
            forks.stdin.close()  # as when the process that asked is killed
            gateway.wait(60)
        finally:
            if gateway.is_running():
                gateway.kill()
        assert forks.wait(60) == 0
