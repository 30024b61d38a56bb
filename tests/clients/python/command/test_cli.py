"""The `csm` program against a real gateway: its arguments, what its other commands print, and what it returns."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from csm.codec.v1 import codec_pb2
from csm_client.command.cli import command_line, main
from csm_client.command.progress import Progress
from csm_client.command.wrong_fields import option_of

from tests.support.fake_stages import NOTICE
from tests.support.wav import wav_of


def test_an_unreachable_server_is_named_with_its_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers here
        target = f"127.0.0.1:{taken.getsockname()[1]}"
        out = tmp_path / "hello.wav"
        assert main(["say", "Hello.", "--out", str(out), "--target", target, "--deadline", "5"]) == 1
    assert f"No server answers at {target}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", [[], ["--as-one-utterance"]])
@pytest.mark.parametrize(
    ("text", "given", "told"),
    [
        ("Hello.", ["--top-k", "0"], "--top-k is 0; it must be 1 to 2048."),
        ("Hello.", ["--temperature", "9"], "--temperature is 9; it must be 0 to 2."),
        ("Hello.", ["--speed", "9"], "--speed is 9; it must be 0.25 to 4"),
        ("Hello.", ["--rate", "9"], "--rate is 9; "),
        ("Hello.", ["--max-seconds", "900"], "--max-seconds is 900 s; "),
        ("Hello.", ["--conversation", "x" * 129], "--conversation "),
        ("Hello.", ["--context", "CONTEXT"], "--context (turns[0].text) is empty; "),
        ("?!", [], "the text has nothing to say"),
    ],
)
def test_a_wrong_value_is_named_by_its_option(
    server: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    given: list[str],
    told: str,
    more: list[str],
) -> None:
    context = tmp_path / "context.json"
    context.write_text('[{"speaker": 0, "text": ""}]')
    given = [str(context) if word == "CONTEXT" else word for word in given]
    assert main(["say", text, *given, *more, "--out", str(tmp_path / "x.wav"), "--target", server.target]) == 1
    assert f"error: {told}" in capsys.readouterr().err


def test_parts_of_a_field_and_fields_without_an_option_keep_their_names() -> None:
    assert option_of("prompt.audio.codes") == "--audio (codes)"
    assert option_of("config.stream_config") == "stream_config"
    assert option_of("texture") == "texture"


def test_a_wrong_context_file_is_named(server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "no.json")
    assert main(["say", "Hello.", "--context", missing, "--target", server.target]) == 1
    assert "no.json cannot be read" in capsys.readouterr().err


def test_wrong_flag_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["say"], ["sing", "x"], ["say", "x", "--deadline", "0"], ["say", "x", "--seed", "y"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2


@pytest.mark.parametrize("target", ["", "127.0.0.1:99999", "server:0"])
def test_a_target_that_cannot_be_called_is_refused(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """gRPC calls port 34463 for 99999."""
    with pytest.raises(SystemExit):
        main(["serve-info", "--target", target])
    assert (
        f"argument --target: must be host:port, with a port from 1 to 65535, not {target!r}" in capsys.readouterr().err
    )


def test_an_empty_variable_for_the_target_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSM_TARGET", "")
    assert command_line().parse_args(["serve-info"]).target == "127.0.0.1:50051"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--max-seconds", "inf"],
        ["--temperature", "1e39"],
        ["--temperature", "nan"],
        ["--max-seconds", "nan"],
        ["--max-seconds", "1e300"],
        ["--seed", str(2**63)],
        ["--speaker", str(2**31)],
        ["--top-k", str(2**31)],
        ["--rate", str(2**31)],
        ["--deadline", "inf"],
        ["--deadline", "1e12"],
        ["--voice", "\udcff"],
        ["--", "\udcff"],
    ],
)
def test_value_that_cannot_be_sent_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = [] if arguments[0] == "--" else ["Hello."]
    with pytest.raises(SystemExit) as stopped:
        main(["say", *text, *arguments])
    assert stopped.value.code == 2
    assert "must be" in capsys.readouterr().err


def test_the_longest_allowed_deadline_works(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["voices", "--target", server.target, "--deadline", "1e9"]) == 0


def test_voices_and_server_info_are_printed(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve-info", "--target", server.target]) == 0
    printed = capsys.readouterr().out
    assert NOTICE in printed and "PCM, WAV" in printed and "80 s in one message" in printed
    assert main(["voices", "--target", server.target]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["ada", "speaker", "0", "en", "the", "first"]


def test_detect_names_the_key_or_exits_with_three(
    server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "a.wav")
    assert main(["say", "Hello.", "--out", out, "--target", server.target]) == 0
    assert main(["detect", out, "--target", server.target]) == 0
    assert "watermark of key key-1 found (confidence 0.75)" in capsys.readouterr().out

    server.deployment.codec.detection = codec_pb2.DetectWatermarkResponse(confidence=0.1)
    assert main(["detect", out, "--target", server.target]) == 3
    assert "no watermark found (confidence 0.10)" in capsys.readouterr().out


@pytest.mark.parametrize(("suffix", "size"), [("raw", 2), ("pcm", 2), ("ulaw", 1), ("alaw", 1)])
def test_detect_takes_samples_alone_with_their_rate(
    server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str, size: int
) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(bytes(range(1, 201)) * 400)
    assert main(["detect", str(path), "--rate", "8000", "--target", server.target]) == 0
    ((searched),) = server.deployment.codec.detected
    assert searched.sample_rate_hertz == 8000 and len(searched.samples) // 2 == 200 * 400 // size
    assert main(["detect", str(path), "--target", server.target]) == 1
    assert f"a.{suffix} holds samples alone; give their sample rate with --rate." in capsys.readouterr().err


def test_detect_refuses_a_rate_for_files_that_say_it(
    server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav_of(bytes(96_000)))
    assert main(["detect", str(path), "--rate", "24000", "--target", server.target]) == 1
    assert "a.wav says its sample rate itself" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["detect", str(path), "--rate", "7999", "--target", server.target])
    assert "must be from 8000 to 192000, not 7999" in capsys.readouterr().err


def test_detect_prints_each_stretch_and_takes_files_larger_than_a_message(
    server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = tmp_path / "long.wav"
    long.write_bytes(wav_of(bytes(20 * 2**20)))
    short = tmp_path / "short.wav"
    short.write_bytes(wav_of(bytes(96_000)))
    found = codec_pb2.DetectWatermarkResponse(confidence=0.6)
    stretch = found.stretches.add(key_id="key-1", confidence=1)
    stretch.start_offset.FromMilliseconds(61_250)
    stretch.end_offset.FromMilliseconds(119_999)
    server.deployment.codec.detection = found
    assert main(["detect", str(long), "--target", server.target]) == 0
    assert capsys.readouterr().out == "1:01.25 to 2:00.00  key key-1  confidence 1.00\n"
    assert len(server.deployment.codec.detected[-1].samples) == 20 * 2**20
    assert main(["detect", str(short), "--json", "--target", server.target]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "detected": False,
        "confidence": 0.6,
        "key_id": "",
        "stretches": [{"start_s": 61.25, "end_s": 119.999, "key_id": "key-1", "confidence": 1.0}],
    }


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_living_line_on_a_terminal_and_sparse_elsewhere() -> None:
    for stream, lines in ((Terminal(), 0), (io.StringIO(), 8)):
        progress = Progress(stream)
        progress.waiting("here")
        for step in range(1, 126):
            progress.audio(step * 0.1, step * 0.05)
        progress.end()
        assert stream.getvalue().count("\n") == lines
