"""The service on a cluster: it speaks, and listeners do not notice lost pods, rollouts and new replicas."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from csm_client import Client, Speech, SpeechStream

from tests.cluster.cluster import Cluster, KubectlError, wait_for
from tests.support.wav import wav_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

# One sentence, so that one engine and one codec make all of it.
TEXT = (
    "Hello from a cluster, whose voice was trained in this project, and which speaks through pods that may be lost, "
    "while nobody who listens should notice, because another replica goes on where the lost one ended."
)
ROLLOUT_SECONDS = 600.0
METRICS = {
    "engine": (9461, "engine_active_slots"),
    "codec": (9462, "codec_active_streams"),
    "gateway": (9460, "tts_running_requests"),
}


@pytest.fixture
def client(deployed: Cluster) -> Iterator[Client]:
    """Reaches one gateway, which lives as long as the test."""
    with deployed.forwarded("service/gateway", 50051) as port, Client(f"127.0.0.1:{port}") as csm:
        yield csm


@pytest.fixture(scope="module")
def undisturbed(deployed: Cluster) -> Speech:
    with deployed.forwarded("service/gateway", 50051) as port, Client(f"127.0.0.1:{port}") as csm:
        return csm.synthesize(TEXT, seed=5)


@pytest.fixture(scope="module")
def undisturbed_at_the_door(deployed: Cluster) -> bytes:
    with deployed.forwarded("service/http", 8000) as port:
        return through_the_door(port)


def busy(cluster: Cluster, stage: str) -> str:
    """The one pod of a stage that serves a stream."""
    port, gauge = METRICS[stage]
    (pod,) = [pod for pod in cluster.pods(stage) if cluster.total(pod, port, gauge) > 0]
    return pod


def failovers(cluster: Cluster) -> float:
    """Streams that a gateway moved to another engine or codec so far, over all gateways."""
    port, _ = METRICS["gateway"]
    return sum(cluster.total(pod, port, "tts_failovers_total") for pod in cluster.pods("gateway"))


def through_the_door(port: int, while_heard: Callable[[], None] = lambda: None) -> bytes:
    """The text as PCM. while_heard: is called once the first audio is there."""
    body = {"model": "tts-1", "voice": "alloy", "input": TEXT, "response_format": "pcm", "seed": 5}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/audio/speech",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=200) as answer:
        heard: bytes = answer.read(4800)
        while_heard()
        heard += answer.read()
    return heard


def heard_while(stream: SpeechStream, disturb: Callable[[], object]) -> bytes:
    """The samples of a stream that is disturbed after its first audio. They are read meanwhile: a caller that reads
    nothing for 2 s gives its slot at the codec back.
    """
    pieces = iter(stream)
    first = next(pieces)
    with ThreadPoolExecutor(1) as beside:
        rest = beside.submit(lambda: b"".join(chunk.audio_content for chunk in pieces))
        disturb()
        return first.audio_content + rest.result()


def test_speech_is_made_and_its_mark_is_found(client: Client, undisturbed: Speech) -> None:
    assert undisturbed.duration_s > 5
    found = client.detect_watermark(wav_of(undisturbed.samples, undisturbed.sample_rate_hz))
    assert found.detected and found.key_id == "key-1"


@pytest.mark.parametrize("stage", ["engine", "codec"])
def test_killed_pod_changes_no_sample(deployed: Cluster, client: Client, undisturbed: Speech, stage: str) -> None:
    deployed.rolled_out(stage, seconds=ROLLOUT_SECONDS)
    before = failovers(deployed)
    with client.stream_synthesize(TEXT, seed=5) as stream:
        heard = heard_while(stream, lambda: deployed.kill(busy(deployed, stage)))
    assert heard == undisturbed.samples
    assert failovers(deployed) == before + 1


@pytest.mark.parametrize("stage", ["engine", "codec"])
def test_deleted_pod_drains_and_changes_no_sample(
    deployed: Cluster, client: Client, undisturbed: Speech, stage: str
) -> None:
    """An ordinary deletion: preStop, SIGTERM, drain. The stream ends where it began."""
    deployed.rolled_out(stage, seconds=ROLLOUT_SECONDS)
    before = failovers(deployed)
    with client.stream_synthesize(TEXT, seed=5) as stream:
        heard = heard_while(stream, lambda: deployed.kubectl("delete", "pod", busy(deployed, stage), "--wait=false"))
    assert heard == undisturbed.samples
    assert failovers(deployed) == before


def test_killing_a_gateway_changes_no_stream_of_the_http_server(
    deployed: Cluster, undisturbed_at_the_door: bytes
) -> None:
    deployed.rolled_out("gateway", "http", seconds=ROLLOUT_SECONDS)
    with deployed.forwarded("service/http", 8000) as port:
        heard = through_the_door(port, lambda: deployed.kill(busy(deployed, "gateway")))
    assert heard == undisturbed_at_the_door


def test_budget_keeps_one_pod_of_a_stage(deployed: Cluster) -> None:
    """A node's drain evicts pods one after the other, so that a stage always has one."""
    deployed.rolled_out("codec", seconds=ROLLOUT_SECONDS)
    first, second = deployed.pods("codec")
    deployed.evict(first)
    with pytest.raises(KubectlError, match="disruption budget"):
        deployed.evict(second)


def test_drain_evicts_gateways_that_are_not_ready(deployed: Cluster) -> None:
    """Without a codec none is, and the drain of a node would wait for them until there is one."""
    deployed.rolled_out("codec", "gateway", seconds=ROLLOUT_SECONDS)
    gateways = deployed.pods("gateway")
    deployed.kubectl("scale", "deployment/codec", "--replicas=0")
    try:
        wait_for("no gateway is ready", lambda: not deployed.pods("gateway"), seconds=120)
        for gateway in gateways:
            deployed.evict(gateway)
    finally:
        deployed.kubectl("scale", "deployment/codec", "--replicas=2")
        deployed.rolled_out("codec", "gateway", "http", seconds=ROLLOUT_SECONDS)


@pytest.mark.parametrize("stage", ["codec", "engine", "gateway"])
def test_rollout_ends_no_call(deployed: Cluster, undisturbed_at_the_door: bytes, stage: str) -> None:
    """Calls one after the other through the HTTP door, while every pod of a stage is replaced."""
    deployed.rolled_out("engine", "codec", "gateway", "http", seconds=ROLLOUT_SECONDS)
    before = set(deployed.pods(stage))
    with deployed.forwarded("service/http", 8000) as port, ThreadPoolExecutor(1) as beside:
        deployed.kubectl("rollout", "restart", f"deployment/{stage}")
        rollout = beside.submit(deployed.rolled_out, stage, seconds=ROLLOUT_SECONDS)
        calls = 0
        while not rollout.done():
            assert through_the_door(port) == undisturbed_at_the_door
            calls += 1
        rollout.result()
    assert calls > 0 and not before & set(deployed.pods(stage))


def test_new_engine_gets_calls_without_a_restart(deployed: Cluster, client: Client) -> None:
    deployed.rolled_out("engine", seconds=ROLLOUT_SECONDS)
    before = set(deployed.pods("engine"))
    deployed.kubectl("scale", "deployment/engine", "--replicas=3")
    try:
        deployed.rolled_out("engine", seconds=ROLLOUT_SECONDS)
        (new,) = set(deployed.pods("engine")) - before
        port, gauge = METRICS["engine"]
        with ThreadPoolExecutor(6) as callers:
            speeches = [callers.submit(client.synthesize, TEXT, seed=seed) for seed in range(6)]
            wait_for("a call at the new engine", lambda: deployed.total(new, port, gauge) > 0, seconds=60)
            assert all(speech.result().duration_s > 2 for speech in speeches)
    finally:
        deployed.kubectl("scale", "deployment/engine", "--replicas=2")
