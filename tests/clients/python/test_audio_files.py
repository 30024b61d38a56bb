"""Audio files that are whole or absent, and which encoding goes into which."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import pytest
import soundfile
from csm_client import AudioFile, OutputFileError, WavFile
from csm_client.command.output import choose_output


def test_wav_gets_its_name_only_when_finished(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with WavFile(path, 24_000) as file:
        file.write(b"abcd")
        assert not path.exists()
        file.finish()
    with wave.open(str(path)) as written:
        assert (written.getnchannels(), written.getsampwidth(), written.getframerate()) == (1, 2, 24_000)
        assert written.readframes(9) == b"abcd" and written.getnframes() == 2
    assert list(tmp_path.iterdir()) == [path]


def test_an_unfinished_wav_leaves_no_file_and_keeps_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"older")
    with pytest.raises(RuntimeError), WavFile(path, 24_000) as file:
        file.write(b"abcd")
        raise RuntimeError("stream broke")
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


FULL_DISK = Path("/dev/full")


@pytest.mark.skipif(not FULL_DISK.exists(), reason="only Linux has a file that is always full")
@pytest.mark.parametrize("kind", [AudioFile, lambda path: WavFile(path, 24_000)])
@pytest.mark.parametrize("is_complete", [True, False])
def test_a_full_disk_keeps_nothing_of_a_file(tmp_path: Path, kind: Any, is_complete: bool) -> None:
    (tmp_path / ".a.part").symlink_to(FULL_DISK)
    with pytest.raises(OSError if is_complete else RuntimeError), kind(tmp_path / "a") as file:
        file.write(b"abcd")
        if is_complete:
            file.finish()
        raise RuntimeError("stream broke")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("encoding", "subtype", "silence"), [("mulaw", "ULAW", b"\xff"), ("alaw", "ALAW", b"\xd5")])
@pytest.mark.parametrize("sample_count", [0, 1, 800])
def test_a_wav_of_g711_is_read_by_other_libraries(
    tmp_path: Path, encoding: Any, subtype: str, silence: bytes, sample_count: int
) -> None:
    path = tmp_path / "a.wav"
    with WavFile(path, 8_000, encoding) as file:
        file.write(silence * sample_count)
        file.finish()
    info = soundfile.info(str(path))
    assert (info.format, info.subtype, info.samplerate, info.frames) == ("WAV", subtype, 8_000, sample_count)
    samples, _ = soundfile.read(str(path), dtype="int16")
    assert abs(samples).max(initial=0) <= 8
    size = int.from_bytes(path.read_bytes()[4:8], "little")
    assert path.stat().st_size == 8 + size and size % 2 == 0


def test_other_files_hold_the_written_bytes(tmp_path: Path) -> None:
    with AudioFile(tmp_path / "a.ogg") as file:
        file.write(b"Ogg")
        file.write(b"S")
        file.finish()
    assert (tmp_path / "a.ogg").read_bytes() == b"OggS"


@pytest.mark.parametrize(
    ("path", "encoding", "chosen"),
    [
        (None, None, ("speech.wav", "pcm", True)),
        (None, "opus", ("speech.ogg", "opus", False)),
        (None, "pcm", ("speech.raw", "pcm", False)),
        (None, "alaw", ("speech.wav", "alaw", True)),
        ("a.wav", None, ("a.wav", "pcm", True)),
        ("a.wav", "mulaw", ("a.wav", "mulaw", True)),
        ("a.WAV", "pcm", ("a.WAV", "pcm", True)),
        ("a.raw", None, ("a.raw", "pcm", False)),
        ("a.raw", "mulaw", ("a.raw", "mulaw", False)),
        ("a.ulaw", None, ("a.ulaw", "mulaw", False)),
        ("a.opus", None, ("a.opus", "opus", False)),
        (None, "mp3", ("speech.mp3", "mp3", False)),
        ("a.MP3", None, ("a.MP3", "mp3", False)),
        ("a.aac", None, ("a.aac", "aac", False)),
        ("a.flac", "flac", ("a.flac", "flac", False)),
        ("a", None, ("a", "pcm", True)),
    ],
)
def test_file_name_and_encoding_determine_each_other(
    path: str | None, encoding: Any, chosen: tuple[str, str, bool]
) -> None:
    output = choose_output(Path(path) if path else None, encoding)
    assert (str(output.path), output.encoding, output.is_wav) == chosen


@pytest.mark.parametrize(("path", "encoding"), [("a.wav", "opus"), ("a", "opus"), ("a.ogg", "wav"), ("a.opus", "alaw")])
def test_name_that_cannot_hold_the_encoding_is_refused(path: str, encoding: Any) -> None:
    with pytest.raises(OutputFileError, match=f"{path} cannot hold"):
        choose_output(Path(path), encoding)
