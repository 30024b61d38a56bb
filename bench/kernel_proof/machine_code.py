"""A kernel's machine code for Hopper, as Triton compiles it: registers, spills, shared memory, kinds of instructions.

Two programs that come with triton read it from the cubin. One of them, the disassembler, takes half a second to start
and hardly more for fifty kernels, so it gets many at once. Results are cached in a folder under the hash of the
kernel's source, so that an unchanged kernel is not compiled again.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import triton
from triton.runtime.jit import JITFunction

from bench.kernel_proof import memory_order
from bench.kernel_proof.depth import depth_counts, tile_work
from bench.kernel_proof.operations import DEPTH_FRAME
from bench.kernel_proof.pretended_gpu import Launch

KEPT_IN = Path("build/kernels")
_BIN = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+)")
_ARCHITECTURE = "SM90a"
_AT_ONCE = 50  # kernels, after which results are cached
_INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]+)\*/\s+(?:@!?\w+\s+)?([A-Z][A-Z0-9_.]+)", re.MULTILINE)
_TENSOR_CORE = frozenset({"HMMA", "HGMMA", "QGMMA", "IMMA", "IGMMA", "DMMA"})
_WARP = 32  # threads
_BULK = frozenset({"UTMALDG", "UBLKCP"})  # copies by the tensor memory accelerator


@dataclass(frozen=True, slots=True)
class MachineCode:
    """registers: of a thread; stack, shared: bytes; the rest are instructions in the text of the kernel.

    spills: loads and stores of local memory. loads: from global memory, loads_16: of those, 16 bytes a thread or by
    bulk copy. products: on tensor cores. source_has_products: the source has `tl.dot`,
    and not all is of 32 bits or more: tensor cores have no exact products of those. must_run_at_once: programs of a
    cooperative launch, 0 of any other; disorder: what its code lacks for its barriers to hold, by `memory_order`.
    tile_work: of the depth decoder's kernel alone, by `depth_counts`.
    """

    name: str
    registers: int
    stack: int
    shared: int
    warps: int
    spills: int
    loads: int
    loads_16: int
    products: int
    source_has_products: bool
    must_run_at_once: int = 0
    disorder: tuple[str, ...] = ()
    tile_work: dict[str, list[int]] = field(default_factory=dict)

    @property
    def programs_of_multiprocessor(self) -> int:
        """Programs that fit on an H100's multiprocessor, by registers (allocated in 256s), shared memory and warps."""
        registers = -(-self.registers * _WARP // 256) * 256 * self.warps
        return min(65_536 // registers, 233_472 // (self.shared + 1024), 64 // self.warps, 32)


_FIELDS = tuple(MachineCode.__slots__)


def machine_code(launch: Launch, kept_in: Path = KEPT_IN) -> MachineCode:
    """The machine code of one variant. Raises: any error of Triton's compiler, with the variant in a note."""
    ((_, code),) = machine_codes([launch], kept_in)
    if isinstance(code, Exception):
        raise code
    return code


def machine_codes(
    launches: Iterable[Launch], kept_in: Path = KEPT_IN
) -> Iterator[tuple[Launch, MachineCode | Exception]]:
    """(variant, its machine code or the compiler's error) for each variant."""
    remaining = iter(launches)
    while some := list(islice(remaining, _AT_ONCE)):
        files = [kept_in / f"{_hash(launch)}.json" for launch in some]
        compiled = [None if file.exists() else _compiled(launch) for launch, file in zip(some, files, strict=True)]
        cubins = [one.asm["cubin"] for one in compiled if one is not None and not isinstance(one, Exception)]
        counts = iter(_instructions(cubins))
        for launch, file, one in zip(some, files, compiled, strict=True):
            if one is None:
                kept = json.loads(file.read_text(encoding="utf-8"))
                yield launch, MachineCode(**kept | {"disorder": tuple(kept["disorder"])})
            elif isinstance(one, Exception):
                yield launch, one
            else:
                code = _read(launch, one, next(counts))
                kept_in.mkdir(parents=True, exist_ok=True)
                part = file.with_suffix(".part")
                part.write_text(json.dumps(asdict(code)), encoding="utf-8")
                part.replace(file)
                yield launch, code


def _compiled(launch: Launch) -> Any:
    """Triton's compiled kernel, or its error, which may be of many types."""
    try:
        return launch.compile()
    except Exception as error:
        error.add_note(f"in {launch.variant()}")
        return error


def _hash(launch: Launch) -> str:
    """A digest of everything that the code depends on. Triton's `cache_key` covers the source and what it calls."""
    shapes = [tuple(tensor.shape) for tensor in launch.tensors.values()] if launch.kernel.launch_metadata else []
    told: tuple[object, ...] = (
        triton.__version__,
        launch.kernel.cache_key,
        launch.variant(),
        shapes,
        _source_of(launch.kernel),
        _FIELDS,
    )
    if launch.must_run_at_once:
        readers = (memory_order, depth_counts, tile_work)
        told += (launch.must_run_at_once, *(inspect.getsource(module) for module in readers))
    return hashlib.sha256(repr(told).encode()).hexdigest()[:32]


def _source_of(function: Any) -> str:
    return str(function.raw_src if hasattr(function, "raw_src") else function.src)


def _source_has_products(function: Any) -> bool:
    """Whether its source, or that of a function of Triton's that it calls, has `tl.dot`."""
    source = _source_of(function)
    if "tl.dot" in source:
        return True
    names = set(re.findall(r"\b\w+(?=\()", source)) - {function.__name__}
    called = [function.fn.__globals__.get(name) for name in names]
    return any(_source_has_products(one) for one in called if isinstance(one, JITFunction))


def _instructions(cubins: Sequence[bytes]) -> Iterator[Counter[str]]:
    """The number of occurrences of each instruction, for each cubin."""
    if not cubins:
        return
    codes = [_code(cubin) for cubin in cubins]
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(b"".join(codes))
        file.flush()
        found = _INSTRUCTION.findall(_output("nvdisasm", "-b", _ARCHITECTURE, file.name))
    end, at = 0, 0
    for code in codes:
        end, counted = end + len(code), Counter[str]()
        while at < len(found) and int(found[at][0], 16) < end:
            counted[found[at][1]] += 1
            at += 1
        yield counted


def _code(cubin: bytes) -> bytes:
    """The instructions in an ELF file of 64 bits: its sections `.text.*`."""
    (headers,) = struct.unpack_from("<Q", cubin, 0x28)
    size, number, names_at = struct.unpack_from("<HHH", cubin, 0x3A)
    sections = [struct.unpack_from("<I20xQQ", cubin, headers + index * size) for index in range(number)]
    names = sections[names_at][1]
    return b"".join(
        cubin[start : start + length] for name, start, length in sections if cubin[names + name :].startswith(b".text.")
    )


def _read(launch: Launch, compiled: Any, instructions: Counter[str]) -> MachineCode:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = _USAGE.search(_output("cuobjdump", "-res-usage", file.name))
        text = _output("nvdisasm", "-c", file.name) if launch.must_run_at_once else ""
        with_halves = _output("nvdisasm", "-c", "-hex", file.name) if launch.name == DEPTH_FRAME else ""
    if usage is None:
        raise RuntimeError(f"cuobjdump told nothing of {launch.name}")
    if not instructions:
        raise RuntimeError(f"nvdisasm told nothing of {launch.name}")

    def total(*families: str) -> int:
        return sum(number for name, number in instructions.items() if name.split(".")[0] in families)

    bulk = total(*_BULK)
    wide = sum(
        number
        for name, number in instructions.items()
        if name.split(".")[0] in ("LDG", "LDGSTS") and "128" in name.split(".")
    )
    return MachineCode(
        name=launch.name,
        registers=int(usage[1]),
        stack=int(usage[2]),
        shared=int(compiled.metadata.shared),
        warps=int(compiled.metadata.num_warps),
        spills=total("LDL", "STL"),
        loads=total("LDG", "LDGSTS") + bulk,
        loads_16=wide + bulk,
        products=total(*_TENSOR_CORE),
        source_has_products=_source_has_products(launch.kernel)
        and any(t.dtype.itemsize < 4 for t in launch.tensors.values()),
        must_run_at_once=launch.must_run_at_once,
        disorder=_disorder(compiled.asm["ptx"], text) if launch.must_run_at_once else (),
        tile_work=depth_counts.counted(launch, with_halves),
    )


def _disorder(ptx: str, text: str) -> tuple[str, ...]:
    operations = memory_order.acquiring_operations(ptx)
    return (*memory_order.complaints_about_ptx(ptx), *memory_order.complaints_about_machine_code(text, operations))


def _output(program: str, *arguments: str) -> str:
    done = subprocess.run([_BIN / program, *arguments], capture_output=True, text=True, check=True)
    return done.stdout
