"""Text becomes the tokens of all of it, and no others."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from csm_engine.model.tokenizer import TextTokenizer
from tests.support.tiny.tokenizer import byte_tokenizer


def test_truncation_and_padding_that_the_file_was_saved_with_do_not_touch_the_text(tmp_path: Path) -> None:
    plain = byte_tokenizer(tmp_path, 320)
    saved = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    saved.enable_truncation(8)
    saved.enable_padding(length=8)
    saved.save(str(tmp_path / "used.json"))
    used = TextTokenizer(tmp_path / "used.json", 320)
    for text in ("a", "Longer than eight tokens."):
        assert used.encode(0, text) == plain.encode(0, text)
