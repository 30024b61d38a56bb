"""What bundle.json may contain. The error for anything else names its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from csm_bundle.bundle import open_bundle
from csm_bundle.codec_identity import CodecIdentity
from csm_bundle.errors import BundleError
from csm_bundle.manifest import Voice
from csm_bundle.sampling import RecommendedSampling
from tests.support.tiny.manifest import valid_manifest, write_bundle

VOICE = {"name": "ann", "speaker": 0}


def test_a_bundle_has_the_values_of_its_manifest(tmp_path: Path) -> None:
    bundle = open_bundle(str(write_bundle(tmp_path, valid_manifest())))
    assert (bundle.name, bundle.version, bundle.notice) == ("tiny", "7", "Untrained.")
    assert bundle.voices == (Voice("ann", 0, ("en",), "Calm."), Voice("bob", 1, (), ""))
    assert bundle.codec == CodecIdentity("mimi", "sha256:00", 32, 2048, 1920, 24000)
    assert bundle.sampling == RecommendedSampling()
    assert bundle.path("model") == tmp_path / "model"
    assert bundle.path("mimi") == tmp_path / "mimi.safetensors"


def test_bundle_may_recommend_sampling(tmp_path: Path) -> None:
    bundle = open_bundle(str(write_bundle(tmp_path, valid_manifest(sampling={"temperature": 0, "top_k": 20}))))
    assert bundle.sampling == RecommendedSampling(0.0, 20)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"format": 2}, r"format is 2; 1 is the only format"),
        ({"name": ""}, r"name is \"\"; a string"),
        ({"version": 3}, r"version is 3; a string"),
        ({"voice": []}, r'the top level is "voice"; allowed keys'),
        ({"message_sdr_db": 9}, r"message_sdr_db is 9; decibels from 10 to 80"),
        ({"message_sdr_db": "36"}, r'message_sdr_db is "36"; decibels from 10 to 80'),
        ({"message_sdr_db": True}, r"message_sdr_db is true; decibels"),
        ({"sampling": {"top_p": 1}}, r'sampling is "top_p"; allowed keys are temperature, top_k'),
        ({"sampling": {"temperature": 3}}, r"sampling.temperature is 3; a number from 0 to 2"),
        ({"sampling": {"top_k": 0}}, r"sampling.top_k is 0; a whole number of at least 1"),
        ({"parts": []}, r"parts is \[\]; an object"),
        ({"parts": {"modle": "x"}}, r'parts is "modle"; allowed keys are lexicon, mimi, model'),
        ({"parts": {"model": 1}}, r"parts.model is 1; a string"),
        ({"parts": {"model": "hf:acme"}}, r'parts.model is "hf:acme"; allowed is hf:OWNER'),
        ({"voices": []}, r"voices is \[\]; at least one"),
        ({"voices": [{"name": "ann"}]}, r"voices\[0\].speaker is null; a whole number"),
        ({"voices": [VOICE, {"name": "b", "speaker": -1}]}, r"voices\[1\].speaker is -1"),
        ({"voices": [VOICE, {"name": "b", "speaker": True}]}, r"voices\[1\].speaker is true"),
        ({"voices": [VOICE, VOICE]}, r'voices\[1\].name is "ann"; each name may be used once'),
        ({"voices": [{**VOICE, "language_codes": "en"}]}, r"language_codes is \"en\"; a list"),
        ({"voices": [{**VOICE, "language_codes": [1]}]}, r"language_codes\[0\] is 1"),
        ({"codec": {"name": "mimi"}}, r"codec.codebook_count is null"),
        ({"format": "\ud800"}, r'format is "\\ud800"; 1 is the only format'),
        ({"\ud800": 1}, r'the top level is "\\ud800"; allowed keys'),
    ],
)
def test_wrong_value_names_file_and_key(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    write_bundle(tmp_path, valid_manifest(**changes))
    with pytest.raises(BundleError, match=key) as caught:
        open_bundle(str(tmp_path))
    assert str(tmp_path / "bundle.json") in str(caught.value)


def test_broken_json_names_file_and_line(tmp_path: Path) -> None:
    write_bundle(tmp_path, '{"format": 1,\n "name": tiny}')
    with pytest.raises(BundleError, match=r"bundle\.json, line 2, column 10: not valid JSON"):
        open_bundle(str(tmp_path))


@pytest.mark.parametrize("path", ["../other/model", "model/../../x", "/etc/passwd", "..", "a\\b"])
def test_part_outside_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    write_bundle(tmp_path, valid_manifest(parts={"model": path}))
    with pytest.raises(BundleError, match="parts.model is .*relative path"):
        open_bundle(str(tmp_path))


@pytest.mark.parametrize("text", ["[" * 200_000, '{"format": ' + "1" * 5_000 + "}", "\ufeff{}"])
def test_json_beyond_the_parser_s_limits_names_the_file(tmp_path: Path, text: str) -> None:
    write_bundle(tmp_path, text)
    with pytest.raises(BundleError, match=r"bundle\.json.*not valid JSON"):
        open_bundle(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"format": 1, "parts": {}, "name": "a", "parts": {}}', "parts"),
        ('{"format": 1, "parts": {"model": "one", "model": "other"}}', "model"),
    ],
)
def test_key_that_is_there_twice_is_named(tmp_path: Path, text: str, key: str) -> None:
    write_bundle(tmp_path, text)
    with pytest.raises(BundleError, match=rf'bundle\.json: not valid JSON: the key "{key}" is there twice'):
        open_bundle(str(tmp_path))


def test_speaker_that_no_message_can_hold_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path, valid_manifest(voices=[{"name": "ann", "speaker": 2**31}]))
    with pytest.raises(BundleError, match=r"voices\[0\].speaker is 2147483648; a whole number from 0 to 2\^31 - 1"):
        open_bundle(str(tmp_path))
