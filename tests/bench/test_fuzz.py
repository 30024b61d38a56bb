"""Fuzzing: the drawn calls, what counts as a pass, and a short run with real processes."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.rvq.v1 import rvq_pb2
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, Phase, find, given, settings

from bench.fuzz import __main__ as fuzz
from bench.fuzz.caller import Caller
from bench.fuzz.methods import Method, methods, valid_requests
from bench.fuzz.strategies import Call, RawCall, calls, raw_calls
from tests.support.tiny.bundle import write_tiny_bundle

ROOT = Path(__file__).parents[2]
CODEC = rvq_pb2.CodecIdentity(codebook_count=32)
CALLS = calls(methods(), valid_requests(CODEC))
SEARCH = settings(
    max_examples=5000, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None, derandomize=True
)


def is_message(call: Call) -> bool:
    if call.method.request is None:
        return True
    made = GetMessageClass(call.method.request)
    try:
        for content in call.messages:
            made.FromString(content)
    except DecodeError:
        return False
    return True


def test_every_port_and_every_method_is_called() -> None:
    ports = {method.port for method in methods()}
    assert ports == {f"{stage} {kind}" for stage in ("gateway", "engine", "codec") for kind in ("api", "health")}
    paths = {method.path for method in methods()}
    for proto in (ROOT / "protos").rglob("*.proto"):
        module = proto.relative_to(ROOT / "protos").with_suffix("").as_posix().replace("/", ".")
        for service in importlib.import_module(f"{module}_pb2").DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                assert f"/{service.full_name}/{method.name}" in paths
    assert ports == {method.port for method in methods() if method.path == "/grpc.health.v1.Health/Watch"}


@pytest.mark.parametrize("is_one", [True, False])
def test_malformed_messages_are_drawn(is_one: bool) -> None:
    find(CALLS, lambda call: bool(call.messages) and is_message(call) is is_one, settings=SEARCH)


@given(CALLS)
@settings(max_examples=100, suppress_health_check=list(HealthCheck), database=None, deadline=None, derandomize=True)
def test_a_unary_call_has_one_message(call: Call) -> None:
    assert call.method.streams_requests or len(call.messages) == 1


class Refuses(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """A server of every method: it keeps the value of x-a, and answers with a status."""

    def __init__(self) -> None:
        self.got: list[object] = []
        self.status = grpc.StatusCode.NOT_FOUND

    def service(self, details: Any) -> Any:
        def refuse(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.got.append(dict(context.invocation_metadata())["x-a"])
            context.abort(self.status, "refused")

        return grpc.unary_unary_rpc_method_handler(refuse)


@pytest.fixture
def refusing() -> Iterator[tuple[Refuses, int]]:
    server, handler = grpc.server(ThreadPoolExecutor(1)), Refuses()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield handler, port
    server.stop(None).wait()


def test_metadata_that_is_not_ascii_reaches_a_server_and_its_answer_counts(refusing: tuple[Refuses, int]) -> None:
    server, port = refusing
    caller = Caller({"gateway api": port})
    call = RawCall(Method("gateway api", "/a/B", None), (("x-a", "\u00e9".encode()),))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.RpcError, match="Invalid metadata"):
            channel.unary_unary("/a/B", None, None)(b"", metadata=(("x-a", "\u00e9"),))
    for server.status in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INTERNAL):
        caller.call_by_hand(call)
        caller.wait()
    caller.close()
    assert caller.broken is None and server.got == ["\u00e9"] * 2
    assert caller.tally.codes == {"NOT_FOUND": 1, "INTERNAL": 1}
    assert caller.tally.num_findings == 1 and "/a/B: INTERNAL" in caller.tally.findings[0]


def test_binary_metadata_is_drawn() -> None:
    def is_no_text(call: RawCall) -> bool:
        return any(value.decode("utf-8", "replace").encode() != value for _, value in call.metadata)

    find(raw_calls(methods()), is_no_text, settings=SEARCH)


def result(**changed: Any) -> dict[str, Any]:
    passed = {"crashed": [], "answers": True, "never_allowed": 0, "tracebacks": {"engine": 0}}
    passed |= {"slots": {"engine": {"engine_active_slots": 0.0}}}
    return passed | {"rss_mb": {"warm": {"engine": 600.0}, "after": {"engine": 610.0}}} | changed


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"crashed": ["engine"]}, "crashed"),
        ({"answers": False}, "answers"),
        ({"never_allowed": 1}, "INTERNAL"),
        ({"tracebacks": {"engine": 2}}, "tracebacks"),
        ({"slots": {"engine": {"engine_active_slots": 1.0}}}, "slots"),
        ({"rss_mb": {"warm": {"engine": 600.0}, "after": {"engine": 700.0}}}, "grew"),
    ],
)
def test_a_run_passes_only_without_a_finding(changed: dict[str, Any], word: str) -> None:
    assert fuzz.why_not_passed(result()) == []
    (why,) = fuzz.why_not_passed(result(**changed))
    assert word in why


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_malformed_requests_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny_bundle(tmp_path / "tiny")
    code = fuzz.main(["--bundle", str(tmp_path / "tiny"), "--logs", str(tmp_path / "logs"), "--requests", "1000"])
    printed = capsys.readouterr().out.splitlines()[-1]
    assert code == 0, printed
    assert json.loads(printed)["requests"] >= 1000
