"""Text to token ids, as CSM was trained: `[speaker]text` between BOS and EOS of the Llama 3 tokenizer.

Source: github.com/SesameAILabs/csm generator.py. One difference is on purpose: text that spells a special token, such
as "<|end_of_text|>", is encoded as plain text, so a caller's text cannot end its segment.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from csm_bundle.errors import CheckpointError

BOS = "<|begin_of_text|>"
EOS = "<|end_of_text|>"


class TextTokenizer:
    """Wraps a `tokenizer.json`.

    Raises: CheckpointError if the file cannot be read, lacks BOS or EOS, or makes ids past the text vocabulary.
    """

    def __init__(self, path: Path, text_vocab_size: int) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(f"{path}: cannot be read as tokenizer.json: {error}") from None
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()  # the file may have stored a truncation and a padding
        self._tokenizer.no_padding()
        self._bos, self._eos = (self._special(path, token) for token in (BOS, EOS))
        largest = max(self._tokenizer.get_vocab(with_added_tokens=True).values())
        if largest >= text_vocab_size:
            raise CheckpointError(
                f"{path}: has token id {largest}; the model's text vocabulary ends at {text_vocab_size - 1}"
            )

    def encode(self, speaker: int, text: str) -> list[int]:
        """Token ids of one text segment, BOS and EOS included."""
        (encoded,) = self._tokenizer.encode_batch([f"[{speaker}]{text}"], add_special_tokens=False)  # without the GIL
        return [self._bos, *encoded.ids, self._eos]

    def _special(self, path: Path, token: str) -> int:
        token_id = self._tokenizer.token_to_id(token)
        if token_id is None:
            raise CheckpointError(f"{path}: has no {token} token; CSM needs the Llama 3 tokenizer's BOS and EOS")
        return int(token_id)
