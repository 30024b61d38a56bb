"""Segments to prompt rows: a row has a code of each codebook and a text token, -1 where masked. No torch.

A text segment is rows of text tokens; audio is rows of codes, closed by the all-zero frame that the model makes to
end its own speech. Source: github.com/SesameAILabs/csm generator.py (`_tokenize_segment`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from csm_bundle.errors import InvalidRequestError, PromptTooLongError
from csm_engine.model.tokenizer import TextTokenizer
from csm_engine.types import Codes, Segment

Rows = npt.NDArray[np.int32]  # (positions, codebooks + 1), -1 where masked
Read = Callable[[Segment], str]  # the text front end: a segment's text as the tokenizer gets it


def as_written(segment: Segment) -> str:
    return segment.text


@dataclass(frozen=True, slots=True)
class Prompt:
    """The backbone's input. rows: (T, K + 1)."""

    rows: Rows
    text_token_count: int  # of the segment to be spoken
    dropped_segments: int = 0

    def __len__(self) -> int:
        return len(self.rows)


class PromptBuilder:
    """Builds prompts for one model: its tokenizer, its codebooks, its window."""

    def __init__(
        self,
        tokenizer: TextTokenizer,
        *,
        num_codebooks: int,
        codebook_size: int,
        max_seq_len: int,
        reserved_frames: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._num_codebooks = num_codebooks
        self._codebook_size = codebook_size
        self._max_seq_len = max_seq_len
        self._reserved_frames = reserved_frames

    def check(self, segments: Sequence[Segment], resume: Codes | None = None) -> None:
        """Raises InvalidRequestError for a last segment with codes, or codes of a wrong shape or range."""
        if not segments or segments[-1].codes is not None:
            raise InvalidRequestError("segments", "the last segment must be the text to speak, without codes")
        for index, segment in enumerate(segments):
            if segment.codes is not None:
                self._check_codes(f"segments[{index}].codes", segment.codes)
        if resume is not None:
            self._check_codes("resume", resume)

    def build(
        self,
        segments: Sequence[Segment],
        *,
        max_frames: int,
        resume: Codes | None = None,
        num_pinned: int = 0,
        read: Read = as_written,
    ) -> Prompt:
        """The prompt of a request. Context that leaves too little room for frames is dropped, oldest first.

        resume: (frames, K) codes of an interrupted run; they follow the prompt. num_pinned: number of leading segments
        that are never dropped, such as the prompt of a voice. read: not called for segments before the newest dropped
        one.

        Raises: InvalidRequestError as `check` does; PromptTooLongError if the text and the resumed frames leave no room
        for another frame, or the pinned segments leave none for the reserved frames.
        """
        self.check(segments, resume)
        *before, last = segments
        spoken = self._segment(last, read)
        # The last resumed frame may be at the window's last position: the step that reads it still makes a frame.
        needed = len(spoken) + (0 if resume is None else max(len(resume) - 1, 0))
        if needed >= self._max_seq_len:
            raise PromptTooLongError(
                f"segments[{len(segments) - 1}].text",
                f"the text takes {needed} positions; the model's window is {self._max_seq_len} and must leave room for"
                " at least one frame",
            )
        # A resumed run keeps the context that the first run kept: its frames use the room reserved for them.
        room = self._max_seq_len - len(spoken) - min(max(max_frames, 1), self._reserved_frames)
        room = min(room, self._max_seq_len - needed - 1)
        pinned = [self._segment(segment, read) for segment in before[:num_pinned]]
        context = before[num_pinned:]
        room -= (num_pinned_rows := sum(map(len, pinned)))
        if pinned and room < 0:
            raise PromptTooLongError(
                f"segments[{num_pinned - 1}]",
                f"the pinned segments take {num_pinned_rows} positions, {-room} more than the model's window of"
                f" {self._max_seq_len} leaves beside the text and its frames",
            )
        kept = _newest_that_fit((self._segment(segment, read) for segment in reversed(context)), room)
        parts = [*pinned, *kept, spoken, *([] if resume is None else [audio_rows(resume)])]
        return Prompt(np.concatenate(parts), text_token_count=len(spoken), dropped_segments=len(context) - len(kept))

    def _segment(self, segment: Segment, read: Read) -> Rows:
        text = self._text(segment.speaker, read(segment))
        if segment.codes is None:
            return text
        end = np.zeros((1, self._num_codebooks), np.int16)
        return np.concatenate([text, audio_rows(segment.codes), audio_rows(end)])

    def _text(self, speaker: int, text: str) -> Rows:
        ids = self._tokenizer.encode(speaker, text)
        rows = np.full((len(ids), self._num_codebooks + 1), -1, np.int32)
        rows[:, -1] = ids
        return rows

    def _check_codes(self, field: str, codes: Codes) -> None:
        if codes.ndim != 2 or codes.shape[1] != self._num_codebooks:
            raise InvalidRequestError(field, f"has shape {codes.shape}; (frames, {self._num_codebooks}) is needed")
        if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < self._codebook_size:
            raise InvalidRequestError(
                field,
                f"codes are {codes.min()}..{codes.max()}; 0..{self._codebook_size - 1} are allowed",
            )


def audio_rows(codes: Codes) -> Rows:
    """codes: (T, K) -> (T, K + 1)"""
    rows = np.full((codes.shape[0], codes.shape[1] + 1), -1, np.int32)
    rows[:, :-1] = codes
    return rows


def _newest_that_fit(context: Iterator[Rows], room: int) -> list[Rows]:
    """The newest parts that fit, oldest first. context: newest first, read up to the first that does not fit."""
    kept: list[Rows] = []
    for part in context:
        room -= len(part)
        if room < 0:
            break
        kept.append(part)
    return kept[::-1]
