"""The parts of a lease in order of importance: what each runs, on a GPU and in the rehearsal on a CPU.

Each part is a separate program, so one that fails, hangs or loses the device affects no other. This module does not
know how parts are run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.lease.wheels.lists import SERVICE_WHEELS, WHEELS, Wheels

# A file that cannot be collected does not stop the others; failures are printed at once (tests/gpu/conftest.py).
_PYTEST = (
    "-m", "pytest", "-c", "/dev/null", "--rootdir=.", "--import-mode=importlib", "-p", "no:cacheprovider",
    "--continue-on-collection-errors", "--tb=short", "-s", "-q",
)  # fmt: skip
_KERNELS = tuple(f"tests/gpu/test_{kind}_on_device.py" for kind in ("kernels", "products", "attention"))
_DEPTH_FRAME = "tests/gpu/test_depth_frame.py"
_CODEC = "tests/gpu/test_codec_on_device.py"
_OTHERS = (*(word for file in (*_KERNELS, _DEPTH_FRAME, _CODEC) for word in ("--deselect", file)), "tests/gpu")
_TINY = ("--shape", "tiny", "--device", "cpu", "--dtype", "float32")


@dataclass(frozen=True, slots=True)
class Part:
    """One program of a lease.

    limit_s: less than nine minutes. arguments: of Python, on the GPU. rehearsed: the arguments on a CPU, with tiny
    shapes. figures: whether it writes figures; other parts only pass or fail. wheels: what it needs on the GPU machine.
    """

    name: str
    limit_s: int
    arguments: tuple[str, ...]
    rehearsed: tuple[str, ...]
    figures: bool = True
    wheels: Wheels = WHEELS


def _tests(name: str, limit_s: int, *arguments: str) -> Part:
    """A part of device tests, the same on a CPU, where `tests/gpu/device.py` decides which of them run."""
    command = (*_PYTEST, "-m", "gpu", *arguments)
    return Part(name, limit_s, command, command, figures=False)


def _program(name: str, limit_s: int, *tiny: str) -> Part:
    return Part(name, limit_s, ("-m", f"bench.lease.{name}"), ("-m", f"bench.lease.{name}", *_TINY, *tiny))


PARTS = (
    _program("smoke", 180),
    _tests("kernels", 150, "--maxfail=20", *_KERNELS),
    _tests("tests", 240, "--durations=8", *_OTHERS),
    _tests("codec_tests", 150, "--durations=8", _CODEC),
    _program("barriers", 60),
    # Separate, as programs that wait for each other in vain would lose the device for the whole process.
    _tests("depth_frame", 300, _DEPTH_FRAME),  # about 80 kernels are compiled, one after the other
    _program("frame_step", 400, "--batches", "1,2", "--context", "16", "--frames", "2", "--published-frames", "2",
             "--rounds", "1", "--forms", "ours,ours-fused,ours-float8,ours-float8-kv"),
    _program("kernel_profile", 240, "--forms", "plain", "--batches", "2", "--context", "16"),
    _program("grid", 400, "--forms", "plain,float8-kv", "--batches", "1,3", "--contexts", "16,200", "--frames", "2",
             "--rounds", "1"),
    _program("prefill", 200, "--together", "1,3", "--prompt-rows", "0,20", "--lengths", "32,300", "--chunks", "64,256",
             "--unseen", "3", "--rounds", "2"),
    _program("next_turn", 240, "--positions", "300", "--trials", "1", "--beside", "2"),
    _program("codec", 400, "--bundle", "bundles/builtin", "--batches", "1,2", "--frames", "2", "--rounds", "1",
             "--trials", "1"),
    _program("serving", 400, "--levels", "1,3", "--warm-s", "2", "--window-s", "4", "--mean-frames", "20"),
    replace(
        _program("service", 400, "--levels", "1,2", "--audio-s", "1", "--duration-s", "4", "--gateways", "2"),
        wheels=SERVICE_WHEELS,
    ),
)  # fmt: skip


def named(names: list[str]) -> list[Part]:
    """The named parts, in the order given. Raises: ValueError naming the unknown part and the known ones."""
    known = {part.name: part for part in PARTS}
    for name in names:
        if name not in known:
            raise ValueError(f"part {name!r} is unknown; allowed are {', '.join(known)}")
    return [known[name] for name in names]
