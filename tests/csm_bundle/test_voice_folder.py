"""Voices with a prompt in a bundle: the part "voices"."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from csm_bundle import voice_folder
from csm_bundle.bundle import open_bundle
from csm_bundle.errors import BundleError
from csm_bundle.voice_folder import MAX_MANIFEST_BYTES, MAX_PROMPT_BYTES, read_voices
from tests.support.tiny.manifest import valid_manifest, write_bundle

CONTENT = {
    "format": 1,
    "speaker": 3,
    "text": "What she says.",
    "audio": "prompt.wav",
    "consent": {"id": "17", "text": "She agrees."},
    "language_codes": ["en"],
    "seed": 7,
}


def write_voice(folder: Path, name: str, recording: bytes = b"RIFF", **changes: Any) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "voice.json").write_text(json.dumps(CONTENT | changes))
    (folder / name / "prompt.wav").write_bytes(recording)


def test_bundle_has_a_folder_of_voices(tmp_path: Path) -> None:
    parts = {"model": "model", "voices": "voices"}
    write_bundle(tmp_path, valid_manifest(parts=parts))
    for name in ("cy", "carol"):
        write_voice(tmp_path / "voices", name)
    (tmp_path / "voices" / "README.md").write_text("no voice")
    carol, cy = read_voices(open_bundle(str(tmp_path)).path("voices"))
    assert (carol.name, cy.name) == ("carol", "cy")
    assert (carol.speaker, carol.text, carol.recording, carol.codes) == (3, "What she says.", b"RIFF", b"")
    assert (carol.language_codes, carol.seed, carol.callers) == (("en",), 7, None)
    assert carol.digest == cy.digest != ""


def test_a_link_of_a_voice_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    """Without one, the gateway would take the voice for deleted."""
    write_voice(tmp_path, "carol")
    (tmp_path / "carol" / "voice.json").unlink()
    for target in ("missing.json", "voice.json"):
        (tmp_path / "carol" / "voice.json").symlink_to(target)
        with pytest.raises(BundleError, match="voice.json"):
            read_voices(tmp_path)
        (tmp_path / "carol" / "voice.json").unlink()


def test_digest_follows_the_prompt(tmp_path: Path) -> None:
    write_voice(tmp_path, "carol")
    write_voice(tmp_path, "cy", b"RIFX")
    write_voice(tmp_path, "dan", text="Something else.")
    assert len({voice.digest for voice in read_voices(tmp_path)}) == 3


@pytest.mark.parametrize("size", [0, MAX_PROMPT_BYTES + 1])
def test_size_of_a_prompt_is_limited(tmp_path: Path, size: int) -> None:
    write_voice(tmp_path, "carol", bytes(size))
    with pytest.raises(BundleError, match=f"prompt.wav has {size} bytes; 1 to {MAX_PROMPT_BYTES} are allowed"):
        read_voices(tmp_path)


def test_large_files_are_not_read(tmp_path: Path) -> None:
    """Such files could exceed the memory."""
    write_voice(tmp_path, "carol")
    with (tmp_path / "carol" / "prompt.wav").open("ab") as file:
        file.truncate(2**40)
    with pytest.raises(BundleError, match=f"prompt.wav has {2**40} bytes; 1 to {MAX_PROMPT_BYTES} are allowed"):
        read_voices(tmp_path)
    with (tmp_path / "carol" / "voice.json").open("ab") as file:
        file.truncate(2**40)
    with pytest.raises(BundleError, match=f"voice.json has {2**40} bytes; 1 to {MAX_MANIFEST_BYTES} are allowed"):
        read_voices(tmp_path)


def test_size_of_all_voices_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are held in memory."""
    write_voice(tmp_path, "ada", bytes(1000))
    write_voice(tmp_path, "carol", bytes(2000))
    manifest_bytes = len(json.dumps(CONTENT))
    monkeypatch.setattr(voice_folder, "MAX_FOLDER_BYTES", 2 * (voice_folder.VOICE_BYTES + manifest_bytes) + 3000)
    assert len(read_voices(tmp_path)) == 2
    (tmp_path / "carol" / "prompt.wav").write_bytes(bytes(2001))
    write_voice(tmp_path, "dan", b"")  # is not even read
    with pytest.raises(BundleError, match="of voices, which is the most allowed; prompts that are codes"):
        read_voices(tmp_path)


def test_a_path_that_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    """A pipe without a writer would block, and a device never ends."""
    for name in ("pipe", "device"):
        write_voice(tmp_path / name, "carol")
        (tmp_path / name / "carol" / "prompt.wav").unlink()
    os.mkfifo(tmp_path / "pipe" / "carol" / "prompt.wav")
    (tmp_path / "device" / "carol" / "prompt.wav").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        with pytest.raises(BundleError, match=r"prompt.wav is no regular file."):
            read_voices(tmp_path / name)


def test_deeply_nested_json_is_refused(tmp_path: Path) -> None:
    write_voice(tmp_path, "carol")
    (tmp_path / "carol" / "voice.json").write_text("[" * 100_000)
    with pytest.raises(BundleError, match="is not valid JSON"):
        read_voices(tmp_path)


def test_name_that_no_request_can_send_is_refused(tmp_path: Path) -> None:
    write_voice(tmp_path, "no spaces")
    with pytest.raises(BundleError, match="no spaces: a voice's name is 1 to 64 letters"):
        read_voices(tmp_path)


def test_voice_of_the_manifest_may_fix_a_seed(tmp_path: Path) -> None:
    write_bundle(tmp_path, valid_manifest(voices=[{"name": "ann", "speaker": 0, "seed": 2**63 - 1}]))
    assert open_bundle(str(tmp_path)).voices[0].seed == 2**63 - 1


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True])
def test_wrong_seed_is_refused(tmp_path: Path, seed: object) -> None:
    write_bundle(tmp_path, valid_manifest(voices=[{"name": "ann", "speaker": 0, "seed": seed}]))
    with pytest.raises(BundleError, match=r"voices\[0\].seed is .*a whole number from 0"):
        open_bundle(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": "half a pair: \ud800"}, r"voice\.json: text is .*; a string without lone surrogates is needed"),
        ({"description": "\udfff"}, r"voice\.json: description is .*; a string without lone surrogates is needed"),
        ({"audio": "", "codes": "prompt.wav"}, r"voice\.json: codes and codec must be given together"),
        ({"audio": "prompt.wav\0"}, r"voice\.json: prompt\.wav\0 must be a file beside it"),
    ],
)
def test_prompt_that_cannot_be_used_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_voice(tmp_path, "carol", **changes)
    with pytest.raises(BundleError, match=message):
        read_voices(tmp_path)


def test_a_number_of_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    write_voice(tmp_path, "carol")
    (tmp_path / "carol" / "voice.json").write_text('{"format": ' + "1" * 5_000 + "}")
    with pytest.raises(BundleError, match="is not valid JSON"):
        read_voices(tmp_path)


def test_key_that_is_there_twice_is_named(tmp_path: Path) -> None:
    write_voice(tmp_path, "carol")
    (tmp_path / "carol" / "voice.json").write_text('{"format": 1, "callers": ["ada"], "callers": ["bo"]}')
    with pytest.raises(BundleError, match=r'voice\.json is not valid JSON: the key "callers" is there twice'):
        read_voices(tmp_path)
