"""Runs programs that compile kernels, each in a fork of one process that has imported what they all import.

    TRITON_INTERPRET=0 python -m tests.bench.kernel_proof.forks

A line on standard input is a program as JSON: its number, arguments as Python takes them, and files for what it prints.
The answer is its number and its exit code.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback
from typing import NoReturn

import torch._dynamo  # noqa: F401  # imported on a first call into torch's references
from triton.runtime.cache import triton_key

import bench.kernel_proof.capturable
import bench.kernel_proof.codec_step
import bench.kernel_proof.machine_code
import bench.kernel_proof.prefetch_model
import bench.kernel_proof.prefill_model
import bench.kernel_proof.proof
import bench.kernel_proof.time_model
import bench.lease.barriers.kernels  # noqa: F401
import csm_engine.execution.ops.prompt.prompt_launches
import csm_engine.execution.ops.state_launches
import csm_engine.execution.ops.triton_ops  # noqa: F401


def main() -> None:
    triton_key()  # reads all of Triton, once in a process
    for line in sys.stdin:
        program = json.loads(line)
        if not (child := os.fork()):
            _run(program["arguments"], program["stdout"], program["stderr"])
        print(program["number"], os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(arguments: list[str], stdout: str, stderr: str) -> NoReturn:
    for descriptor, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    code = 1
    try:
        match arguments:
            case ["-m", name, *_]:
                sys.argv = arguments[1:]
                runpy.run_module(name, run_name="__main__", alter_sys=True)
            case ["-c", source]:
                exec(source, {"__name__": "__main__"})
            case [path]:
                runpy.run_path(path, run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
