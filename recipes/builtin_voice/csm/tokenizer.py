"""The text side: a byte-level BPE in a `tokenizer.json` of the Llama 3 kind, trained on the texts of the corpus.

Few merges: near enough to letters that words never heard are spelled, short enough for a small model.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from csm_engine.model.tokenizer import BOS, EOS

VOCAB_SIZE = 384  # 256 bytes, merges, and BOS and EOS


def write_tokenizer(path: Path, texts: Iterable[str]) -> None:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=VOCAB_SIZE - 2, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(BOS, special=True), AddedToken(EOS, special=True)])
    tokenizer.save(str(path))
