"""compose.yaml on these images: the built-in voice speaks through all containers, and a stop loses nothing."""

from __future__ import annotations

import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from csm_client import Client

from recipes.images.catalog import FOLDER
from tests.images.conftest import Deployment, stages
from tests.support.wav import wav_of

pytestmark = [pytest.mark.images, pytest.mark.timeout(900)]

TEXT = "Hello from a container. This is the voice that was trained in this project."
METRICS = {
    "gateway": (9460, "tts_"),
    "engine-builtin": (9461, "engine_"),
    "codec-builtin": (9462, "codec_"),
    "http": (9463, "http_"),
}
SCRAPE = (
    "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{}/metrics', timeout=20).read().decode())"
)
WRITE = "open('/{}/probe', 'w').close()"
# Beside it there is the init, and this program itself.
STATUS = """
import os, pathlib
for process in pathlib.Path("/proc").glob("[0-9]*"):
    if b"\\0services." in (process / "cmdline").read_bytes():
        print((process / "status").read_text())
"""
COMPILED = """
import pathlib
from csm_bundle.runtime.compiled import BUILT
for folder in (BUILT, pathlib.Path("/tmp/numba")):
    print(*sorted(f"{path.relative_to(folder)}:{path.stat().st_mtime_ns}" for path in folder.rglob("*.nb?")))
"""
STOP_SECONDS_WHILE_STARTING = 20.0


def read(url: str, body: bytes | None = None, content_type: str = "application/json") -> bytes:
    request = urllib.request.Request(url, data=body, headers={"Content-Type": content_type} if body else {})
    with urllib.request.urlopen(request, timeout=100) as answer:
        content: bytes = answer.read()
    return content


def client(deployment: Deployment) -> Client:
    return Client(f"127.0.0.1:{deployment.port}")


def test_speech_is_made_and_its_mark_is_found(deployment: Deployment) -> None:
    with client(deployment) as csm:
        speech = csm.synthesize(TEXT, seed=3)
        assert speech.duration_s > 2
        assert csm.detect_watermark(wav_of(speech.samples, speech.sample_rate_hz)).detected


def test_http_door_speaks_and_finds_the_mark(deployment: Deployment) -> None:
    door = f"http://127.0.0.1:{deployment.http_port}/v1/audio"
    body = json.dumps({"model": "tts-1", "voice": "alloy", "input": TEXT, "response_format": "wav"}).encode()
    speech = read(f"{door}/speech", body)
    assert speech[:4] == b"RIFF"
    assert json.loads(read(f"{door}/watermark", speech, "audio/wav"))["detected"]


@pytest.mark.parametrize(("stage", "files"), [("codec-builtin", 31), ("engine-builtin", 6)])
def test_a_stage_starts_with_the_kernels_of_its_image(deployment: Deployment, stage: str, files: int) -> None:
    """A kernel that is compiled again has the same name, and another time."""
    built, used = deployment.python(stage, COMPILED).splitlines()
    assert len(built.split()) >= files and used == built


def test_every_stage_reports_its_metrics(deployment: Deployment) -> None:
    assert set(METRICS) == set(stages())
    for stage, (port, prefix) in METRICS.items():
        lines = deployment.python(stage, SCRAPE.format(port)).splitlines()
        assert any(line.startswith(prefix) for line in lines), stage
    assert b"tts_" in read(f"http://127.0.0.1:{deployment.metrics_port}/metrics")


def test_root_file_systems_are_read_only(deployment: Deployment) -> None:
    for stage in stages():
        assert deployment.tool.inspect("container", deployment.container(stage))["HostConfig"]["ReadonlyRootfs"], stage
        deployment.python(stage, WRITE.format("tmp"))


def test_programs_have_no_capability_and_get_none(deployment: Deployment) -> None:
    for stage in stages():
        status = deployment.python(stage, STATUS)
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert (fields["CapEff"], fields["CapBnd"], fields["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1"), stage


def test_measurements_are_kept(deployment: Deployment) -> None:
    file = FOLDER / "results.json"
    results = json.loads(file.read_text(encoding="utf-8"))
    results["compose_ready_seconds"] = round(deployment.ready_seconds, 1)
    file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def test_sigterm_ends_a_stream_whole_and_the_program_with_status_0(deployment: Deployment) -> None:
    """Last: the containers are gone after it."""
    with client(deployment) as csm, csm.stream_synthesize(TEXT, seed=3) as stream, ThreadPoolExecutor(1) as beside:
        pieces = iter(stream)
        first = next(pieces)
        status = beside.submit(deployment.stop, "gateway")
        whole = b"".join(chunk.audio_content for chunk in [first, *pieces])
        assert status.result() == 0
    assert stream.summary is not None and len(whole) > 2 * 24000
    for stage in ("http", "engine-builtin", "codec-builtin"):
        assert deployment.stop(stage) == 0, stage


@pytest.mark.parametrize("after_seconds", [0.0, 1.0, 4.0])
def test_sigterm_while_the_codec_starts_ends_it_at_once(deployment: Deployment, after_seconds: float) -> None:
    """0 once the program handles the signal; 143 before, when the interpreter itself starts. 137 would be a kill."""
    container = deployment.container("codec-builtin")
    deployment.tool.run("start", container)
    time.sleep(after_seconds)
    began = time.monotonic()
    assert deployment.stop("codec-builtin") in (0, 143)
    assert time.monotonic() - began < STOP_SECONDS_WHILE_STARTING
