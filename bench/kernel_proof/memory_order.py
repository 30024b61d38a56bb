"""Whether the compiled code of a cooperative kernel asks the GPU for the order that its barriers promise.

Pure: it reads the text of PTX and of machine code. What it holds against them:

* In PTX, every atomic operation on global memory is `acq_rel` of the whole GPU, and every look is an acquiring load of
  it. Between one of them and the `bar.sync` before it, and between it and the one behind it, no thread touches global
  memory, jumps or is jumped to. So what all threads of a program did before is released, and what they do behind it
  has been acquired, by the one thread that makes the operation.
* No load is non-coherent (`ld.global.nc`; LDG.CONSTANT), by which a value of before a barrier could be read.
* Copies into shared memory have ended (`cp.async.wait_group 0`) before an atomic operation of the same function and
  before its end: a barrier does not wait for them.
* In machine code, a fence of the GPU's scope stands before each atomic operation, and the L1 cache is invalidated
  behind each of them and each acquiring load.
"""

from __future__ import annotations

import re

_SYNC = re.compile(r"^bar(rier)?\.sync\b")
_ATOMIC = re.compile(r"^(?:@!?%\w+ )?(?:atom|red)\.(\S+)")
_ACQUIRING = re.compile(r"^(?:@!?%\w+ )?ld\.(?=\S*\bacquire\b)(\S+)")
_GLOBAL = re.compile(r"^(?:@!?%\w+ )?(?:(?:ld|st|atom|red)\.\S*\bglobal\b|cp\.async\.c[ag]\.)")
_JUMP = re.compile(r"^(?:\$\w+:|(?:@!?%\w+ )?(?:bra|ret|call|exit)\b)")
_NON_COHERENT = re.compile(r"^(?:@!?%\w+ )?ld\.global\.(?:\w+\.)*nc\b")
_INSTRUCTION = re.compile(r"^/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+\s+)?([A-Z][A-Z0-9_.]*)")


def complaints_about_ptx(ptx: str) -> list[str]:
    """A line for each breach of the rules; each begins with the number of the line in the PTX."""
    lines = [" ".join(line.split("//")[0].split()) for line in ptx.splitlines()]
    wrong = []
    for number, line in enumerate(lines):
        if _NON_COHERENT.match(line):
            wrong.append(f"{number + 1}: a non-coherent load: {line}")
        atomic, look = _ATOMIC.match(line), _ACQUIRING.match(line)
        if not (atomic or look) or "shared" in line.split(" [")[0]:
            continue
        kinds = set(line.split(" [")[0].replace(" ", ".").split("."))
        if not {"global", "gpu"} <= kinds or (atomic and "acq_rel" not in kinds):
            wrong.append(f"{number + 1}: not an acquiring and releasing operation of the GPU: {line}")
        for way, step in (("before", -1), ("behind", 1)):
            if between := _until_sync(lines, number, step):
                wrong.append(f"{number + 1}: no bar.sync {way} {line}: first comes {between}")
    return wrong + _copies_under_way(lines)


def _until_sync(lines: list[str], number: int, step: int) -> str:
    """What comes before a `bar.sync` that must not; empty if nothing does."""
    number += step
    while 0 <= number < len(lines):
        line = lines[number]
        if _SYNC.match(line):
            return ""
        if _GLOBAL.match(line) or _JUMP.match(line):
            return line
        number += step
    return "the end"


def _copies_under_way(lines: list[str]) -> list[str]:
    """In the order of the text: a loop's copies end behind it."""
    wrong, under_way = [], 0
    for number, line in enumerate(lines, 1):
        if line.startswith("cp.async.c"):
            under_way = under_way or number
        elif re.match(r"cp\.async\.wait_group 0\b", line) or line.startswith("cp.async.wait_all"):
            under_way = 0
        elif under_way and (line.startswith("ret;") or _ATOMIC.match(line)):
            wrong.append(f"{number}: copies of line {under_way} may be under way at {line}")
            under_way = 0
    return wrong


def complaints_about_machine_code(text: str, operations: int) -> list[str]:
    """text: of nvdisasm; operations: atomic ones and acquiring loads that the PTX has."""
    names = [found[1] for line in text.splitlines() if (found := _INSTRUCTION.match(line.strip()))]
    wrong = []
    atomic = [place for place, name in enumerate(names) if name.startswith(("ATOMG.", "RED.", "ATOM."))]
    for place in atomic:
        before, behind = names[max(0, place - 4) : place], names[place + 1 : place + 2]
        if not any(name.startswith("MEMBAR") and name.endswith("GPU") for name in before):
            wrong.append(f"no fence of the GPU before instruction {place}, {names[place]}")
        if not any(name.startswith("CCTL.IVALL") for name in behind):
            wrong.append(f"the L1 cache is not invalidated behind instruction {place}, {names[place]}")
    if (invalidated := names.count("CCTL.IVALL")) != operations:
        wrong.append(f"the L1 cache is invalidated {invalidated} times, for {operations} acquiring operations")
    wrong += [f"a non-coherent load: {name}" for name in names if name.startswith("LDG") and "CONSTANT" in name]
    return wrong


def acquiring_operations(ptx: str) -> int:
    lines = (line.strip() for line in ptx.splitlines())
    return sum(1 for line in lines if (_ATOMIC.match(line) or _ACQUIRING.match(line)) and "global" in line)
