"""The tokenizer: a `tokenizer.json` with the symbols of the front end `english-phonemes-3` as tokens.

A segment reads `[speaker]symbol symbol ...`. Speakers 0 to 9 have tokens of their own; everything else is unknown.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel

from csm_engine.model.tokenizer import BOS, EOS
from csm_text.symbols import SYMBOLS

TEXT_FRONTEND = "english-phonemes-3"
NUM_SPEAKERS = 10
UNKNOWN = "[unknown]"
TOKENS = (UNKNOWN, BOS, EOS, *(f"[{speaker}]" for speaker in range(NUM_SPEAKERS)), *SYMBOLS)
IDS = {token: index for index, token in enumerate(TOKENS)}
VOCAB_SIZE = 96  # a few to spare


def write_tokenizer(path: Path) -> None:
    tokenizer = Tokenizer(WordLevel(IDS, UNKNOWN))
    speaker = pre_tokenizers.Split(Regex(r"^\[\d+\]"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([speaker, pre_tokenizers.WhitespaceSplit()])
    tokenizer.add_special_tokens([AddedToken(BOS, special=True), AddedToken(EOS, special=True)])
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
