"""Conversations and codes in files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from csm_client import ContextFileError, Turn, load_context, save_codes

from tests.support.fake_stages import fake_frames


def test_conversation_is_read_with_paths_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    save_codes(tmp_path / "b.codes", fake_frames(0, 2))
    turns = [
        {"speaker": 0, "text": "How are you?", "audio": "a.wav"},
        {"speaker": 1, "text": "Fine.", "codes": "b.codes"},
        {"speaker": 0, "text": "Good."},
    ]
    path = tmp_path / "dialogue.json"
    path.write_text(json.dumps(turns))
    assert load_context(path) == [
        Turn(0, "How are you?", wav=b"RIFF"),
        Turn(1, "Fine.", codes=fake_frames(0, 2)),
        Turn(0, "Good."),
    ]


def test_a_byte_order_mark_before_a_conversation_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "dialogue.json"
    path.write_text('[{"speaker": 0, "text": "Grüße."}]', encoding="utf-8-sig")
    assert load_context(path) == [Turn(0, "Grüße.")]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "cannot be read"),
        ("{}", "must hold a list"),
        ("[" * 100_000, "dialogue.json cannot be read: its lists and objects are nested too deeply"),
        ("[1]", "turn 1 must be an object"),
        ('[{"speaker": 0}]', "turn 1 needs 'speaker'"),
        ('[{"speaker": "0", "text": "x"}]', "turn 1 needs 'speaker'"),
        ('[{"speaker": 0, "text": "x"}, {"speaker": 0, "text": "x", "wav": "a"}]', "turn 2 has unknown keys: wav"),
        ('[{"speaker": 0, "text": "x", "audio": "a.wav", "codes": "b"}]', "both 'audio' and 'codes'"),
        ('[{"speaker": 0, "text": "x", "audio": "missing.wav"}]', "No such file"),
        ('[{"speaker": 0, "text": "x", "audio": 7}]', "name its file with a string"),
        ('[{"speaker": 0, "text": "x", "audio": "a\\u0000b"}]', "null byte"),
        ('[{"speaker": 0, "text": "\\ud800"}]', "must fit 32 bits"),
        ('[{"speaker": 2147483648, "text": "x"}]', "must fit 32 bits"),
        ('[{"speaker": 0, "text": "x", "codes": "bad.codes"}]', "not written by this client"),
    ],
)
def test_wrong_conversation_names_the_turn(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "bad.codes").write_bytes(b"\xff\xff\xff")
    path = tmp_path / "dialogue.json"
    path.write_text(content)
    with pytest.raises(ContextFileError, match=sentence):
        load_context(path)


def test_a_missing_conversation_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContextFileError, match="nowhere.json cannot be read"):
        load_context(tmp_path / "nowhere.json")
