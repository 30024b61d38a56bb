"""The key file: made once, private, checked, and never shown."""

from __future__ import annotations

import codecs
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from csm_bundle.errors import KeyringError
from csm_codec.watermark.keys.keyring import PUBLIC_PAYLOAD, open_keyring
from csm_codec.watermark.keys.payload import frame_symbols


def _write(path: Path, active: str = "a", **keys: str) -> Path:
    path.write_text(json.dumps({"format": 1, "active": active, "keys": keys}))
    return path


def test_first_run_makes_a_private_key_that_stays(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys.json"
    made = open_keyring(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(made.active.payload) == 5
    assert made.active.payload != open_keyring(tmp_path / "other.json").active.payload
    assert open_keyring(path) == made
    assert [file.name for file in path.parent.iterdir()] == ["keys.json"]


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keyrings = list(pool.map(lambda _: open_keyring(tmp_path / "keys.json"), range(8)))
    assert len({keyring.active.payload for keyring in keyrings}) == 1


def test_rotation_marks_with_the_active_key_and_keeps_the_old(tmp_path: Path) -> None:
    keyring = open_keyring(_write(tmp_path / "k", "new", old="0102030405", new="0a0b0c0d0e"))
    assert keyring.get("").id == "new"
    assert keyring.get("old").payload == bytes([1, 2, 3, 4, 5])
    with pytest.raises(KeyringError, match='no watermark key "x"; there are old, new'):
        keyring.get("x")


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = _write(tmp_path / "k", a="0102030405")
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert open_keyring(path).active.id == "a"


def test_public_key_is_refused_unless_allowed(tmp_path: Path) -> None:
    path = _write(tmp_path / "k", a=PUBLIC_PAYLOAD.hex())
    with pytest.raises(KeyringError, match="published in the source of CSM"):
        open_keyring(path)
    assert open_keyring(path, allow_public_key=True).active.payload == PUBLIC_PAYLOAD


def test_a_key_is_never_shown(tmp_path: Path) -> None:
    keyring = open_keyring(_write(tmp_path / "k", a="0102030405"))
    assert "0102030405" not in repr(keyring) and repr(bytes([1, 2, 3, 4, 5])) not in repr(keyring)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("{", "line 1: not valid JSON"),
        ("1" * 5_000, "holds a number of thousands of digits"),
        ("[]", "an object with the keys"),
        ('{"format": 2, "active": "a", "keys": {"a": "0102030405"}}', "format is 2"),
        ('{"format": 1, "active": "b", "keys": {"a": "0102030405"}}', "active is not one of the keys"),
        ('{"format": 1, "active": "a", "keys": {"a": "01020304"}}', '"a" must be 10 hexadecimal digits'),
        ('{"format": 1, "active": "a", "keys": {"a": 7}}', '"a" must be 10 hexadecimal digits'),
        ('{"format": 1, "active": "a", "keys": {"a b": "0102030405"}}', "a key id must be"),
        ('{"format": 1, "active": "a", "keys": {}}', "at least one key"),
        ('{"format": 1, "active": "a", "keys": {"a": "0102030405", "b": "0102030405"}}', "same bytes"),
        ('{"format": 1, "active": "a", "keys": {"a": "0102030405", "a": "0102030406"}}', '"a" is there twice'),
    ],
)
def test_malformed_keyring_is_named_and_refused_without_showing_keys(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "k").write_text(text)
    with pytest.raises(KeyringError, match=f"^The watermark keyring {tmp_path / 'k'}.*{message}") as caught:
        open_keyring(tmp_path / "k")
    assert "0102030405" not in str(caught.value)


def test_unreadable_keyring_is_an_error_not_a_new_key(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(KeyringError, match="cannot be read"):
        open_keyring(tmp_path / "folder")


def test_public_key_packs_into_the_known_symbols() -> None:
    """The twenty symbols of CSM's published key, as the package computes them, plus one, and the end mark."""
    symbols = [3, 1, 1, 0, 3, 1, 0, 3, 2, 1, 0, 2, 0, 3, 2, 0, 3, 0, 2, 1]
    assert frame_symbols(PUBLIC_PAYLOAD) == (*(symbol + 1 for symbol in symbols), 0)
    with pytest.raises(ValueError, match="5 are needed"):
        frame_symbols(b"four")
