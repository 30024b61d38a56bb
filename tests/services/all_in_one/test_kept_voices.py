"""Voices with a prompt through the real stages, with random weights: reuse, watermark, checks."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import csm_client
import numpy as np
import pytest
from csm.v1 import tts_pb2
from csm_client import Client, Consent

from services.codec.settings import CodecSettings
from services.codec.stage import start_codec
from services.engine.settings import EngineSettings
from services.engine.stage import EngineStage, start_engine
from services.gateway.settings import GatewaySettings
from services.gateway.stage import start_gateway
from tests.support.fake_deployment import stage_targets
from tests.support.wav import wav_of

LOCAL: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "health_port": 0, "metrics_port": -1, "drain_seconds": 0.0}
FRAMES = 25  # of the prompt: two seconds at 12.5 frames a second
CONSENT = Consent("none needed", "It is noise.")


@dataclass
class Running:
    engine: EngineStage
    client: Client

    def reused(self) -> float:
        """The number of prompt positions that were reused so far."""
        return self.engine.server.metrics.registry.get_sample_value("engine_reused_tokens_total") or 0.0


@pytest.fixture(scope="module")
def voiced_bundle(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with a voice that has a prompt."""
    folder = tmp_path_factory.mktemp("voiced") / "tiny"
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["parts"]["voices"] = "voices"
    (folder / "bundle.json").write_text(json.dumps(manifest))
    (folder / "voices" / "eve").mkdir(parents=True)
    content = {"format": 1, "speaker": 1, "text": "Noise.", "audio": "prompt.wav", "seed": 7}
    consent = {"id": CONSENT.id, "text": CONSENT.text}
    (folder / "voices" / "eve" / "voice.json").write_text(json.dumps(content | {"consent": consent}))
    (folder / "voices" / "eve" / "prompt.wav").write_bytes(noise())
    return folder


@pytest.fixture(scope="module")
def running(voiced_bundle: Path, keyring: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The stages, with their own event loop; they are shared, as loading takes seconds."""
    loop, stack = asyncio.new_event_loop(), AsyncExitStack()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    starting = start(stack, voiced_bundle, keyring, tmp_path_factory.mktemp("kept"))
    engine, port = asyncio.run_coroutine_threadsafe(starting, loop).result()  # bounded by the test's own limit
    with Client(f"127.0.0.1:{port}", timeout_s=100) as client:
        yield Running(engine, client)
    asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def start(stack: AsyncExitStack, bundle: Path, keyring: Path, folder: Path) -> tuple[EngineStage, int]:
    model: dict[str, Any] = LOCAL | {"bundle": str(bundle), "threads": 1, "slots": 2}
    engine = await start_engine(EngineSettings(**model))
    stack.push_async_callback(engine.stop)
    codec = await start_codec(CodecSettings(**(model | {"watermark_keyring": keyring})))
    stack.push_async_callback(codec.stop)
    gateway = await start_gateway(
        GatewaySettings(
            **LOCAL,
            **stage_targets([engine.server], [codec.server]),
            code_sealing_keyring=folder / "sealing.json",
            voices_database=str(folder / "voices.sqlite"),
        )
    )
    stack.push_async_callback(gateway.stop)
    await gateway.wait_ready()
    return engine, gateway.server.port


def noise(seconds: float = 2.0) -> bytes:
    return wav_of((3000 * np.random.default_rng(5).standard_normal(round(24_000 * seconds))).astype("<i2").tobytes())


def test_second_call_with_a_kept_voice_reuses_the_positions_of_its_prompt(running: Running) -> None:
    client = running.client
    kept = client.create_voice("carol", audio=noise(), text="Noise.", consent=CONSENT, speaker=1)
    assert kept.prompt_duration.ToTimedelta().total_seconds() == FRAMES * 0.08
    assert kept.prompt_level_db == pytest.approx(20 * np.log10(3000 / 32768), abs=0.2)
    bare = client.synthesize("Hello.", speaker=1, seed=1, max_seconds=0.8)
    before = running.reused()
    first = client.synthesize("Hello.", voice="carol", seed=1, max_seconds=0.8)
    assert first.header.voice == "carol" and first.samples != bare.samples
    assert first.summary.stats.context_token_count > bare.summary.stats.context_token_count + FRAMES
    between = running.reused()
    assert between - before < FRAMES
    client.synthesize("Other words.", voice="carol", seed=2, max_seconds=0.8)
    assert running.reused() - between > FRAMES
    again = client.synthesize("Hello.", voice="carol", seed=1, max_seconds=0.8)
    assert again.samples == first.samples


def test_voice_of_the_bundle_has_its_prompt_and_its_seed(running: Running) -> None:
    client = running.client
    voices = {voice.name: voice for voice in client.list_voices()}
    assert (voices["eve"].has_prompt, voices["eve"].seed, voices["eve"].speaker) == (True, 7, 1)
    first = client.synthesize("Hello.", voice="eve", max_seconds=0.8)
    again = client.synthesize("Hello.", voice="eve", max_seconds=0.8)
    kept = client.create_voice("erin", audio=noise(), text="Noise.", consent=CONSENT, speaker=1, seed=7)
    same = client.synthesize("Hello.", voice=kept.voice.name, max_seconds=0.8)
    assert first.samples == again.samples == same.samples
    assert first.header.seed == 7


def test_speech_of_a_kept_voice_is_marked_and_makes_no_voice(running: Running) -> None:
    client = running.client
    client.create_voice("frank", audio=noise(), text="Noise.", consent=CONSENT)
    speech = client.stream_synthesize("A long story.", voice="frank", max_seconds=3, seed=3).read_all()
    assert speech.summary.watermark.coverage == tts_pb2.WATERMARK_COVERAGE_FULL
    assert (client.detect_watermark(wav_of(speech.samples))).detected
    with pytest.raises(csm_client.InvalidRequestError) as failed:
        client.create_voice("dave", audio=wav_of(speech.samples), text="A long story.", consent=CONSENT)
    (violation,) = failed.value.field_violations
    assert violation.description.startswith("carries this server's watermark")


def test_silent_and_clipped_recordings_make_no_voice(running: Running) -> None:
    loud = np.clip(1e6 * np.random.default_rng(0).standard_normal(48_000), -32768, 32767).astype("<i2").tobytes()
    for samples, why in ((bytes(96_000), "is silent for 100%"), (loud, "is clipped")):
        with pytest.raises(csm_client.InvalidRequestError) as failed:
            running.client.create_voice("grace", audio=wav_of(samples), text="Noise.", consent=CONSENT)
        assert why in failed.value.field_violations[0].description
