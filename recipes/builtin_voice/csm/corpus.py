"""Training sequences: single turns and dialogues, as rows of text tokens and codes in the layout of a prompt.

In a single turn an even speaker is the first voice and an odd speaker the second. In a dialogue the voices may be
swapped. The loss then leaves out a speaker's first turn, so that the model learns to follow the context's voice. Some
turns of a dialogue have codes with the encoder's errors, as from a recording (misheard.py). A batch is planned on the
CPU and assembled on the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recipes.builtin_voice.csm.misheard import EncoderErrors
from recipes.builtin_voice.csm.tokenizer import IDS, NUM_SPEAKERS
from recipes.builtin_voice.csm.utterances import SPEAKER_AT, Utterances

DIALOGUE_SHARE = 0.3
TURNS = np.array([2, 3, 4, 5, 6, 8, 10, 12])
TURNS_SHARES = np.array([0.22, 0.22, 0.14, 0.1, 0.1, 0.08, 0.08, 0.06])
LONGEST = 1200  # positions of a dialogue
MONOLOGUE_SHARE = 0.4  # of the dialogues have one speaker only
SWAPPED_SHARE = 0.5
TURNS_SUMS = np.cumsum(TURNS_SHARES)[:-1]
OTHER_SPEAKERS_SHARE = 0.2  # of the sequences have any speakers, not only 0 and 1
# Half of the dialogues have, for half of their turns, codes as from recordings. These turns are not in the loss.
RECORDED_DIALOGUES, RECORDED_TURNS = 0.5, 0.5

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Segment:
    """One turn of a sequence."""

    utterance: int  # index
    speaker: int
    is_learned: bool  # whether it is in the loss
    is_recorded: bool  # whether its codes have the encoder's errors


@dataclass(frozen=True, slots=True)
class Batch:
    """B rows padded to one length T. Padding counts as text, which is not in the loss.

    tokens: (B, T, K + 1). is_audio: (B, T). learned: (N,), indices into B * T of the frames in the loss, ends of speech
    included. deep: (M,), indices into N of the frames whose other codebooks are in the loss too. phones: (N, parts).
    """

    tokens: Tensor
    is_audio: Tensor
    learned: Tensor
    deep: Tensor
    phones: Tensor


class TrainingCorpus:
    """Batches of sequences made of utterances."""

    def __init__(self, utterances: Utterances, encoder_errors: EncoderErrors) -> None:
        self.utterances, self._encoder_errors = utterances, encoder_errors
        self._of_voice: list[Ints] = []

    def batches(
        self, random: np.random.Generator, *, positions: int, dialogue_share: float, depth_share: float, pool: int
    ) -> Iterator[Batch]:
        """Batches from a pool of new sequences. Rows of similar length are together, up to `positions` in a batch."""
        self._of_voice = [np.flatnonzero(self.utterances.voices == voice) for voice in range(2)]
        lengths = self.utterances.text_lengths + self.utterances.num_frames + 1
        rows = self._sequences(random, pool, dialogue_share, lengths)
        sizes = [int(sum(lengths[segment.utterance] for segment in row)) for row in rows]
        groups: list[list[int]] = [[]]
        for index in np.argsort(sizes, kind="stable").tolist():
            if groups[-1] and (len(groups[-1]) + 1) * sizes[index] > positions:
                groups.append([])
            groups[-1].append(index)
        for number in random.permutation(len(groups)).tolist():
            yield self._batch([rows[index] for index in groups[number]], random, depth_share)

    def _sequences(
        self, random: np.random.Generator, count: int, dialogue_share: float, lengths: Ints
    ) -> list[list[Segment]]:
        known = np.where(random.random(count) < OTHER_SPEAKERS_SHARE, NUM_SPEAKERS, 2)
        speakers = (random.random((count, 2)) * known[:, None]).astype(np.int64)
        is_dialogue = random.random(count) < dialogue_share
        alone = np.zeros(count, np.int64)
        for voice, its in enumerate(self._of_voice):
            alone = np.where(
                speakers[:, 0] % 2 == voice, its[(random.random(count) * len(its)).astype(np.int64)], alone
            )
        rows = zip(is_dialogue.tolist(), speakers.tolist(), alone.tolist(), strict=True)
        return [
            self._dialogue(random, who, lengths) if is_one else [Segment(utterance, who[0], True, False)]
            for is_one, who, utterance in rows
        ]

    def _dialogue(self, random: np.random.Generator, speakers: list[int], lengths: Ints) -> list[Segment]:
        if random.random() < MONOLOGUE_SHARE:
            speakers = speakers[:1]
        swapped = int(random.random() < SWAPPED_SHARE)
        recorded_share = RECORDED_TURNS if random.random() < RECORDED_DIALOGUES else 0.0
        turns = int(TURNS[np.searchsorted(TURNS_SUMS, random.random())])
        known: set[int] = set()
        row: list[Segment] = []
        length = 0
        chances = random.random((turns, 3)).tolist()
        for turn, (for_speaker, for_utterance, for_recorded) in enumerate(chances):
            speaker = speakers[int(for_speaker * len(speakers))]
            its = self._of_voice[(speaker + swapped) % 2]
            utterance = int(its[int(for_utterance * len(its))])
            length += int(lengths[utterance])
            if row and length > LONGEST:
                break
            is_recorded = turn < turns - 1 and for_recorded < recorded_share
            is_learned = not is_recorded and (not swapped or speaker in known)
            row.append(Segment(utterance, speaker, is_learned, is_recorded))
            known.add(speaker)
        return row

    def _batch(self, rows: list[list[Segment]], random: np.random.Generator, depth_share: float) -> Batch:
        said, device = self.utterances, self.utterances.codes.device
        segments = [segment for row in rows for segment in row]
        which = np.array([segment.utterance for segment in segments])
        texts, frames = said.text_lengths[which], said.num_frames[which]
        sizes = texts + frames + 1
        row_of = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        ends = np.cumsum(sizes)
        row_starts = np.concatenate([[0], ends[np.flatnonzero(np.diff(row_of))]])
        width = int(np.bincount(row_of, weights=sizes).max())
        first = ends - sizes - row_starts[row_of] + row_of * width  # index of a segment's first position in B * T
        text_at, text_from = _ranges(first, texts), _ranges(said.text_starts[which], texts)
        frame_at, frame_from = _ranges(first + texts, frames), _ranges(said.frame_starts[which], frames)
        learned = np.array([segment.is_learned for segment in segments])
        is_recorded = np.repeat([segment.is_recorded for segment in segments], frames)
        end_at = first + sizes - 1

        def put(values: npt.NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device, non_blocking=True)

        num_codes = said.codes.shape[1]
        tokens = torch.zeros(len(rows) * width, num_codes + 1, dtype=torch.int64, device=device)
        tokens[put(text_at), -1] = said.text[put(text_from)].long()
        speakers = np.array([IDS[f"[{segment.speaker}]"] for segment in segments])
        tokens[put(first + SPEAKER_AT), -1] = put(speakers)
        sources = put(frame_from)
        tokens[put(frame_at), :-1] = said.codes[sources].long()
        if is_recorded.any():
            tokens[put(frame_at[is_recorded]), :-1] = self._encoder_errors(
                said.codes[put(frame_from[is_recorded])].long()
            )
        is_audio = np.zeros(len(rows) * width, bool)
        is_audio[frame_at] = is_audio[end_at] = True
        phones = torch.zeros(len(rows) * width, said.phones.shape[1], dtype=torch.int64, device=device)
        phones[put(frame_at)] = said.phones[sources].long()
        its_frames, its_ends = frame_at[np.repeat(learned, frames)], end_at[learned]
        places = put(np.concatenate([its_frames, its_ends]))
        is_deep = np.concatenate([random.random(len(its_frames)) < depth_share, np.ones(len(its_ends), bool)])
        return Batch(
            tokens.view(len(rows), width, -1),
            put(is_audio).view(len(rows), width),
            places,
            put(np.flatnonzero(is_deep)),
            phones[places],
        )


def _ranges(starts: Ints, lengths: Ints) -> Ints:
    """The ranges that begin at `starts`, with these lengths, one after another."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))
