"""What a warp does for one tile of a product of the depth decoder's kernel, counted in the kernel's machine code.

Pure: it reads the text of `nvdisasm -c -hex`. A product's function has a loop over tiles and in it one over steps,
which the compiler may have unrolled. A step waits once for its copies into shared memory (DEPBAR.LE), the tile once
more behind its last step: so it is seen how many steps a loop's text has, and loops of another kind are refused.

An instruction says in bits 41 to 44 of its second half for how many clocks its warp issues nothing behind it. Where a
processor part has one warp, as with four warps a program, no other fills these clocks. The vendor does not publish
this; it is as Jia et al. found for Volta (arXiv:1804.06826, 2.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

# The number of a function's phase, its first constant: Triton 3.7 has it in its place, 3.6 behind all other arguments.
_PHASE = re.compile(r"_step__.*?c(?:constexpr_)?(\d)_")
_LINE = re.compile(r"^\s+/\*[0-9a-f]+\*/\s+(.*?)\s*/\* 0x[0-9a-f]{16} \*/")
_SECOND_HALF = re.compile(r"^\s+/\* 0x([0-9a-f]{16}) \*/")
_JUMP = re.compile(r"\bBRA\b.*?(\.L_x_\d+)")
_MATRICES = re.compile(r"\bLDSM\.16\.MT?88(?:\.([24]))?")
_SHARED = re.compile(r"\bLDS(?:\.(U8|S8|U16|S16|64|128))?\b")
_PRODUCT = re.compile(r"\b[HI]MMA\b")
_BYTES = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, None: 4, "64": 8, "128": 16}  # of a thread
_WARP = 32
_NEVER = "@!PT "


@dataclass(frozen=True, slots=True)
class TileWork:
    """Of one warp. clocks: to issue its instructions, if it never waits for data; instructions: how many they are;
    shared_bytes: that it reads from shared memory; products: its instructions of tensor cores.
    """

    clocks: int
    instructions: int
    shared_bytes: int
    products: int


@dataclass(frozen=True, slots=True)
class _Instruction:
    text: str
    clocks: int

    @property
    def shared_bytes(self) -> int:
        if self.text.startswith(_NEVER):
            return 0
        if found := _MATRICES.search(self.text):
            return 128 * int(found[1] or 1)
        return _WARP * _BYTES[found[1]] if (found := _SHARED.search(self.text)) else 0


def tile_work(text: str, steps: Mapping[int, int]) -> dict[int, TileWork]:
    """By the number of a phase. steps: how many a tile of the phase has.

    What stands in the loop over tiles counts once, with what a program does for few of its tiles (adding the parts of a
    sum). Raises: ValueError for a phase that has no function, or whose loops are not those of tiles and steps.
    """
    functions = {int(found[1]): loops for name, loops in _functions(text) if (found := _PHASE.search(name))}
    if missing := steps.keys() - functions:
        raise ValueError(f"phases {sorted(missing)} have no function; {sorted(functions)} have")
    return {phase: _of_tile(phase, functions[phase], number) for phase, number in steps.items()}


def _of_tile(phase: int, loops: list[Sequence[_Instruction]], steps: int) -> TileWork:
    waits = [sum(1 for one in loop if "DEPBAR.LE" in one.text) for loop in loops]
    if waits not in ([1, 2], [steps + 1]):
        raise ValueError(f"phase {phase}: loops with products that wait {waits} times; known are [1, 2], [{steps + 1}]")
    once = _work(loops[-1])
    step = _work(loops[0]) if len(loops) > 1 else (0, 0, 0, 0)
    return TileWork(*(first + (steps - 1) * other for first, other in zip(once, step, strict=True)))


def _work(instructions: Sequence[_Instruction]) -> tuple[int, int, int, int]:
    return (
        sum(one.clocks for one in instructions),
        len(instructions),
        sum(one.shared_bytes for one in instructions),
        sum(1 for one in instructions if _PRODUCT.search(one.text)),
    )


def _functions(text: str) -> Iterator[tuple[str, list[Sequence[_Instruction]]]]:
    """The name of each function, and its loops that have products, the shortest first."""
    name, instructions, labels = "", list[_Instruction](), dict[str, int]()
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith(("$", ".text.")) and line.rstrip().endswith(":"):
            yield name, _loops(instructions, labels)
            name, instructions, labels = line.rstrip()[:-1], [], {}
        elif line.startswith(".L_"):
            labels[line.split(":")[0]] = len(instructions)
        elif found := _LINE.match(line):
            half = _SECOND_HALF.match(lines[number + 1])
            if half is None:
                raise ValueError(f"no second half of an instruction behind {line.strip()!r}")
            instructions.append(_Instruction(found[1], int(half[1], 16) >> 41 & 15))
    yield name, _loops(instructions, labels)


def _loops(instructions: list[_Instruction], labels: Mapping[str, int]) -> list[Sequence[_Instruction]]:
    loops = []
    for number, one in enumerate(instructions):
        found = _JUMP.search(one.text)
        if found and (first := labels.get(found[1], number + 1)) <= number:
            loop = instructions[first : number + 1]
            if any(_PRODUCT.search(inside.text) for inside in loop):
                loops.append(loop)
    return sorted(loops, key=len)
