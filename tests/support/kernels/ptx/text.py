"""Parses PTX text into functions of instructions. It knows no instruction's meaning.

Source: Parallel Thread Execution ISA 8.7, https://docs.nvidia.com/cuda/parallel-thread-execution.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_FUNCTION = re.compile(r"\.(entry|func)\b")
_LABEL = re.compile(r"^(\$?[\w$]+):")
_GUARD = re.compile(r"^@(!?)(%?[\w:]+)\s+")
_DECLARED = re.compile(r"\.reg\s+\.(pred|[a-z]\d+)\s+(.*)", re.DOTALL)
_NAME = re.compile(r"(?<![\w%$.])[a-z]\w*(?![\w$.:])")
_PARAMETER = re.compile(r"\.param\b[^,)]*?([\w$]+)(?:\[\d+\])?\s*(?=[,)])")


@dataclass(frozen=True, slots=True)
class Instruction:
    """name: with its types. guard: (the register that must be true, whether it must be false instead)."""

    name: str
    operands: tuple[str, ...]
    guard: tuple[str, bool] | None = None


@dataclass(slots=True)
class Function:
    """labels: index into code. Registers that inline assembly declares are called NAME:BITS."""

    name: str
    parameters: tuple[str, ...]
    results: tuple[str, ...]
    code: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)


def functions_of(text: str) -> tuple[str, dict[str, Function]]:
    """The name of the kernel, and all functions by name. Raises: ValueError for text without a kernel."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/|^\s*\.(?:loc|file)\b[^\n]*", "", text, flags=re.DOTALL | re.MULTILINE)
    kernel, functions, place = "", dict[str, Function](), 0
    while found := _FUNCTION.search(text, place):
        head, place = _head(text, found.end())
        if text[place] == ";":  # declared, defined elsewhere
            continue
        end = _end(text, place, "{", "}")
        name = re.findall(r"[\w$]+", head.name)[0]
        function = Function(name, _parameters(head.parameters), _parameters(head.results))
        _read(function, text[place + 1 : end])
        functions[name], place = function, end
        kernel = name if found[1] == "entry" else kernel
    if not kernel:
        raise ValueError("the text has no kernel")
    return kernel, functions


@dataclass(frozen=True, slots=True)
class _Head:
    results: str
    name: str
    parameters: str


def _head(text: str, place: int) -> tuple[_Head, int]:
    """For each function, what precedes its body, and the position of the body or of a declaration's semicolon."""
    results = ""
    if text[place:].lstrip().startswith("("):
        first = text.index("(", place)
        end = _end(text, first, "(", ")")
        results, place = text[first : end + 1], end + 1
    first = text.index("(", place)
    end = _end(text, first, "(", ")")
    body = re.compile(r"[{;]").search(text, end)
    if body is None:
        raise ValueError("a function without a body")
    return _Head(results, text[place:first], text[first : end + 1]), body.start()


def _end(text: str, first: int, opening: str, closing: str) -> int:
    """The position of the bracket that closes the one at `first`."""
    depth = 0
    for found in re.compile(f"[{opening}{closing}]").finditer(text, first):
        depth += 1 if found[0] == opening else -1
        if depth == 0:
            return found.start()
    raise ValueError(f"no {closing} for the {opening} at {first}")


def _parameters(text: str) -> tuple[str, ...]:
    return tuple(found[1] for found in _PARAMETER.finditer(text))


def _read(function: Function, body: str) -> None:
    scopes: list[dict[str, str]] = [{}]  # of names without %, which inline assembly declares: with their bits
    for statement in _statements(function, body, scopes):
        if found := _DECLARED.match(statement):
            width = 1 if found[1] == "pred" else int(found[1][1:])
            for name, count in re.findall(r"(%?\w+)(?:<(\d+)>)?", found[2]):
                names = [f"{name}{number}" for number in range(int(count))] if count else [name]
                scopes[-1].update({one: f"{one}:{width}" for one in names if not name.startswith("%")})
        elif not statement.startswith("."):
            known = {name: full for scope in scopes for name, full in scope.items()}
            if known:
                statement = _NAME.sub(lambda found: known.get(found[0], found[0]), statement)  # noqa: B023
            function.code.append(_instruction(statement))


def _statements(function: Function, body: str, scopes: list[dict[str, str]]) -> Iterator[str]:
    for statement in body.split(";"):
        rest = statement.strip()
        while True:  # a brace before a statement belongs to no operand, and a label may stand before any statement
            if rest.startswith("{"):
                scopes.append({})
                rest = rest[1:].lstrip()
            elif rest.startswith("}"):
                scopes.pop()
                rest = rest[1:].lstrip()
            elif found := _LABEL.match(rest):
                function.labels[found[1]] = len(function.code)
                rest = rest[found.end() :].lstrip()
            else:
                break
        if rest:
            yield rest


def _instruction(statement: str) -> Instruction:
    guard = None
    if found := _GUARD.match(statement):
        guard, statement = (found[2], found[1] == "!"), statement[found.end() :]
    name, _, rest = statement.partition(" ") if " " in statement.split("\t")[0] else statement.partition("\t")
    return Instruction(name.strip(), tuple(_operands(rest)), guard)


def _operands(text: str) -> Iterator[str]:
    depth, first = 0, 0
    for place, sign in enumerate(text):
        if sign in "{[(":
            depth += 1
        elif sign in "}])":
            depth -= 1
        elif sign == "," and depth == 0:
            yield text[first:place].strip()
            first = place + 1
    if rest := text[first:].strip():
        yield rest
