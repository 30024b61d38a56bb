"""`csm say` against a real gateway: what it writes, prints and leaves behind."""

from __future__ import annotations

import json
import re
import wave
from pathlib import Path
from typing import Any

import pytest
import soundfile
from csm_client.command.cli import main

from services.gateway.stages.conversations import conversation_key
from tests.support.fake_deployment import FakeDeployment
from tests.support.fake_stages import FRAME_SAMPLES, NOTICE


def test_say_writes_a_playable_file_and_prints_the_figures(
    server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "hello.wav"
    code = main(["say", "Hello.", "--out", str(out), "--target", server.target, "--seed", "7", "--speaker", "1"])
    assert code == 0
    with wave.open(str(out)) as file:
        assert file.getnframes() == 10 * FRAME_SAMPLES
    printed = capsys.readouterr()
    for line in (
        r"time to first audio  \d+\.\d{3} s",
        r"audio length         0\.80 s",
        r"real-time factor     \d+\.\d\d",
        r"finish reason        end_of_speech",
        r"watermark            key key-1, fake/1, coverage full",
        r"seed                 7",
        rf"note                 {NOTICE}",
    ):
        assert re.search(f"^{line}$", printed.out, re.MULTILINE), line
    assert "waiting for the first audio" in printed.err and "s of audio after" in printed.err
    assert server.deployment.engine.calls[0].request.segments[-1].speaker_id == 1


@pytest.mark.parametrize(
    ("out", "encoding", "rate", "held"),
    [
        ("a.ogg", "opus", 24_000, ("OGG", "OPUS")),
        ("a.opus", None, 8_000, ("OGG", "OPUS")),
        ("a.flac", None, 24_000, ("FLAC", "PCM_16")),
        ("a.wav", "mulaw", 8_000, ("WAV", "ULAW")),
        ("a.wav", "alaw", 8_000, ("WAV", "ALAW")),
        ("a.wav", "wav", 16_000, ("WAV", "PCM_16")),
        ("a.wav", "pcm", 48_000, ("WAV", "PCM_16")),
    ],
)
def test_say_writes_the_encoding_at_the_rate(
    server: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    out: str,
    encoding: str | None,
    rate: int,
    held: tuple[str, str],
) -> None:
    path = tmp_path / out
    options = ["--encoding", encoding] if encoding else []
    assert main(["say", "Hello.", "--out", str(path), "--rate", str(rate), "--target", server.target, *options]) == 0
    info = soundfile.info(str(path))
    assert ((info.format, info.subtype), info.samplerate) == (held, rate)
    if encoding != "flac" and path.suffix != ".flac":  # a stream of it tells no length
        assert info.frames == 0.8 * rate
    printed = capsys.readouterr().out
    content = "wav" if held == ("WAV", "PCM_16") else encoding or path.suffix[1:]
    assert f"format               {content}, {rate} Hz" in printed and "audio length         0.80 s" in printed


@pytest.mark.parametrize(
    ("name", "starts"), [("a.mp3", (b"\xff\xf3",)), ("a.aac", (b"\xff\xf1",)), ("a.flac", (b"fLaC",))]
)
def test_say_takes_the_encoding_from_the_file_name(
    server: Any, tmp_path: Path, name: str, starts: tuple[bytes, ...]
) -> None:
    path = tmp_path / name
    assert main(["say", "Hello.", "--out", str(path), "--target", server.target]) == 0
    assert path.read_bytes().startswith(starts)
    request = server.deployment.engine.calls[0].request
    assert request.segments[-1].text == "Hello."
    dialogue = tmp_path / "dialogue.json"
    dialogue.write_text(json.dumps([{"speaker": 1, "text": "Hello.", "audio": name}]))
    options = ["--context", str(dialogue), "--out", str(tmp_path / "b.wav"), "--target", server.target]
    assert main(["say", "Again.", *options]) == 0
    assert main(["detect", str(path), "--target", server.target]) == 0
    codec = server.deployment.codec
    assert len(codec.encoded[0].samples) == len(codec.detected[0].samples) >= 2 * 19_200


def test_say_asks_for_the_speed(server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--out", str(tmp_path / "a.wav"), "--target", server.target]
    assert main(["say", "Hello.", *options, "--speed", "1.5"]) == 0
    assert server.deployment.codec.calls[0].request.speed == 1.5
    assert main(["say", "Hello.", *options, "--speed", "5"]) == 1
    assert "--speed is 5; it must be 0.25 to 4, or 0 for 1." in capsys.readouterr().err


def test_say_writes_headerless_samples(server: Any, tmp_path: Path) -> None:
    for encoding, size in (("pcm", 2), ("mulaw", 1)):
        path = tmp_path / f"{encoding}.raw"
        options = ["--encoding", encoding, "--rate", "8000", "--target", server.target]
        assert main(["say", "Hello.", "--out", str(path), *options]) == 0
        assert path.stat().st_size == size * 6_400


def test_say_refuses_a_name_that_cannot_hold_the_encoding(
    server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "a.wav")
    assert main(["say", "Hello.", "--out", out, "--encoding", "opus", "--target", server.target]) == 1
    assert "must end in .ogg or .opus" in capsys.readouterr().err
    assert server.deployment.engine.calls == [] and list(tmp_path.iterdir()) == []


def test_say_names_the_rates_of_an_encoding(server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "a.ogg")
    assert main(["say", "Hello.", "--out", out, "--rate", "44100", "--target", server.target]) == 1
    assert "--rate is 44100; with AUDIO_ENCODING_OGG_OPUS" in capsys.readouterr().err


def test_ogg_opus_is_context_and_can_be_searched(server: Any, tmp_path: Path) -> None:
    spoken, dialogue = tmp_path / "a.ogg", tmp_path / "dialogue.json"
    assert main(["say", "Hello.", "--out", str(spoken), "--target", server.target]) == 0
    dialogue.write_text(json.dumps([{"speaker": 1, "text": "Hello.", "audio": "a.ogg"}]))
    options = ["--context", str(dialogue), "--out", str(tmp_path / "b.wav"), "--target", server.target]
    assert main(["say", "Again.", *options]) == 0
    assert main(["detect", str(spoken), "--target", server.target]) == 0
    codec = server.deployment.codec
    assert [len(sent.samples) for sent in (codec.encoded[0], codec.detected[0])] == [2 * 38_400] * 2


def test_returned_codes_are_context_of_the_next_call(server: Any, tmp_path: Path) -> None:
    out, codes = tmp_path / "a.wav", tmp_path / "a.codes"
    common = ["--target", server.target, "--out", str(out)]
    assert main(["say", "Hello.", *common, "--return-codes", str(codes)]) == 0
    dialogue = tmp_path / "dialogue.json"
    turns = [
        {"speaker": 0, "text": "Hello.", "codes": "a.codes"},
        {"speaker": 1, "text": "Yes?", "audio": "a.wav"},
    ]
    dialogue.write_text(json.dumps(turns))
    options = ["--context", str(dialogue), "--temperature", "0", "--top-k", "1", "--max-seconds", "0.16"]
    assert main(["say", "Again.", *common, *options]) == 0
    request = server.deployment.engine.calls[1].request
    assert [segment.codes.frame_count for segment in request.segments] == [10, 3, 0]
    assert (request.sampling_params.temperature, request.sampling_params.top_k) == (0, 1)
    assert request.max_frame_count == 2


def test_a_conversation_is_named(server: Any, tmp_path: Path) -> None:
    options = ["--conversation", "a talk", "--out", str(tmp_path / "a.wav"), "--target", server.target]
    assert main(["say", "Hello.", *options]) == 0
    key = conversation_key("", "a talk", [])
    assert server.deployment.engine.calls[0].metadata["csm-conversation"] == key


def test_a_server_killed_during_the_stream_leaves_no_file(
    server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.deployment.engine.script.pause_at = 5
    killed = server.do(lambda: kill_when_paused(server.deployment))
    out = tmp_path / "hello.wav"
    assert main(["say", "Hello.", "--out", str(out), "--target", server.target]) == 1
    killed.result(60)
    assert list(tmp_path.iterdir()) == []
    printed = capsys.readouterr()
    assert "error: The audio is incomplete." in printed.err and "was not written" in printed.err
    assert printed.out == ""


async def kill_when_paused(deployment: FakeDeployment) -> None:
    await deployment.engine.script.paused.wait()
    while not deployment.codec.calls or deployment.codec.calls[0].frame_count < 5:
        assert deployment.codec_server._api_server is not None
        await deployment.codec_server._api_server.wait_for_termination(0.01)
    await deployment.engine_server.drain(0)


@pytest.mark.parametrize("option", ["--out", "--return-codes"])
@pytest.mark.parametrize("out", ["", "/", "."])
def test_a_folder_as_output_is_refused_before_any_synthesis(
    server: Any, option: str, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["say", "Hello.", option, out, "--target", server.target]) == 1
    assert "is a folder; it must be a file." in capsys.readouterr().err
    assert server.deployment.engine.calls == []
