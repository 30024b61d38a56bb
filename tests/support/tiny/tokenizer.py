"""Writes a `tokenizer.json` like Llama 3's with one token for each byte, BOS and EOS, and no merges."""

from __future__ import annotations

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from csm_engine.model.tokenizer import BOS, EOS, TextTokenizer


def write_byte_tokenizer(path: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(BOS, special=True), AddedToken(EOS, special=True)])
    tokenizer.save(str(path))


def byte_tokenizer(folder: Path, text_vocab_size: int) -> TextTokenizer:
    """Writes such a file into `folder`, and loads it."""
    write_byte_tokenizer(folder / "tokenizer.json")
    return TextTokenizer(folder / "tokenizer.json", text_vocab_size)
