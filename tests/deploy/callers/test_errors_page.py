"""docs/errors.md names every reason of the services, with the status that the code gives and that of the HTTP door."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import grpc
import pytest
from csm_client.errors import ErrorDetails, ServerError

from services.http.api.errors import from_client_error

WORD = re.compile(r"[A-Z][A-Z_]{3,}")
STAGES = ("ENGINE", "CODEC")
# Strings in capitals that are no reasons.
METHODS = {"HEAD", "POST", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"}  # of HTTP
OTHER_WORDS = {"CANCELLED", "ERROR", "WARNING", "INFO", "FLAC", "SERIALIZABLE", "PASSIVE", "NFKD", *METHODS, *STAGES}
OTHER_PREFIXES = ("CSM_", "GRPC_", "OMP_", "SC_", "TCP_")
# Calls that make one violation of a field.
VIOLATIONS = {"FieldViolation", "SealError", "wrong", "_wrong", "wrong_field"}


@pytest.fixture(scope="session")
def sources(repository: Path) -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in (repository / "services").rglob("*.py")}


@pytest.fixture(scope="session")
def rows(repository: Path) -> dict[str, list[str]]:
    """Cells of the tables, by reason."""
    page = (repository / "docs" / "errors.md").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    for line in page.splitlines():
        if row := re.match(r"\| `([A-Z_]{3,}|[a-z_]{3,})` \|(.*)\|$", line):
            assert row[1] not in found, row[1]
            found[row[1]] = [cell.strip() for cell in row[2].split(" | ")]
    return found


def reasons_in(node: ast.expr, constants: dict[str, str]) -> Iterator[str]:
    """The reasons that an expression may be."""
    match node:
        case ast.Constant(value=str(word)) if WORD.fullmatch(word):
            yield word
        case ast.Name(id=name) if name in constants:
            yield constants[name]
        case ast.IfExp(body=body, orelse=orelse):
            yield from reasons_in(body, constants)
            yield from reasons_in(orelse, constants)
        case ast.JoinedStr(values=[ast.FormattedValue(), ast.Constant(value=str(ending))]) if ending[:1] == "_":
            yield from (stage + ending for stage in STAGES if WORD.fullmatch(stage + ending))


def is_reason(word: str) -> bool:
    return word not in OTHER_WORDS and not word.startswith(OTHER_PREFIXES)


def reasons(trees: Iterable[ast.Module]) -> set[str]:
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.expr)]
    return {word for node in nodes for word in reasons_in(node, {}) if is_reason(word)}


def statuses(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Reasons with the name of the status, where one call has both."""
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name) and WORD.fullmatch(node.value.value)
    }
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        words = [word for argument in call.args for word in reasons_in(argument, constants) if is_reason(word)]
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        codes = [a.attr for a in call.args if isinstance(a, ast.Attribute) and hasattr(grpc.StatusCode, a.attr)]
        if name in VIOLATIONS:
            codes = [grpc.StatusCode.INVALID_ARGUMENT.name]
        yield from ((word, code) for word in words for code in codes)


def test_every_reason_is_in_the_table_and_no_other(sources: dict[Path, ast.Module], rows: dict[str, list[str]]) -> None:
    raised = reasons(sources.values())
    assert len(raised) > 50 and {"ENGINE_LOST", "QUOTA_EXCEEDED"} <= raised
    assert {reason for reason in rows if reason.isupper()} == raised


def test_status_is_that_of_the_code(sources: dict[Path, ast.Module], rows: dict[str, list[str]]) -> None:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for tree in sources.values():
        for reason, code in statuses(tree):
            found[reason].add(code)
    assert len(found) > 45
    assert {reason: {rows[reason][0]} for reason in found} == dict(found)


def test_http_status_is_that_of_the_door(rows: dict[str, list[str]]) -> None:
    for reason, cells in rows.items():
        if reason.isupper():
            error = ServerError(grpc.StatusCode[cells[0]], "", ErrorDetails(reason=reason))
            answer = from_client_error(error)
            assert (reason, cells[1]) == (reason, str(answer.status))
            assert answer.body["error"]["code"] == reason.lower()


def test_unavailable_is_retryable_and_wrong_requests_are_not(rows: dict[str, list[str]]) -> None:
    for reason, (status, *_, again) in rows.items():
        assert again in ("yes", "later", "no"), reason
        if status == "UNAVAILABLE":
            assert again == "yes", reason
        if status in ("INVALID_ARGUMENT", "NOT_FOUND", "UNAUTHENTICATED"):
            assert again == "no", reason


def test_codes_of_the_door_are_in_its_table(sources: dict[Path, ast.Module], rows: dict[str, list[str]]) -> None:
    raised: defaultdict[str, set[str]] = defaultdict(set)
    for path, tree in sources.items():
        if "http" not in path.parts:
            continue
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Name(id="ApiError"), args=[ast.Constant(value=int(status)), *_]):
                    codes = [word.value for word in node.keywords if word.arg == "code"]
                    raised.update({str(code.value): {str(status)} for code in codes if isinstance(code, ast.Constant)})
                case ast.keyword(arg="code", value=ast.Constant(value=str(code))):
                    raised[code]
                case ast.Call(func=ast.Name(id="unavailable"), args=[_, ast.Constant(value=str(code))]):
                    raised[code] = {"503"}
    raised |= {code: {"400"} for code in ("invalid_value", "unknown_parameter", "missing_required_parameter")}
    table = {reason: cells[0] for reason, cells in rows.items() if reason.islower()}
    of_gateway = {reason.lower() for reason in rows if reason.isupper()}  # the door may give these by itself
    assert set(table) <= set(raised) <= set(table) | of_gateway
    assert all(table[code] in found for code, found in raised.items() if found and code in table)
