"""Sequences to train on: single turns and dialogues, as rows of text tokens and of codes, in the prompt's own layout.

In a single turn an even speaker is the first voice and an odd speaker the second. In a dialogue the voices may be
swapped. The loss then leaves out a speaker's first turn, so that the model learns to follow the context's voice. Some
turns of a dialogue are codes as the encoder would give them for a recording (misheard.py). A batch is planned on the
CPU and put together on the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recipes.builtin_voice.csm.misheard import Misheard
from recipes.builtin_voice.csm.tokenizer import IDS, NUM_SPEAKERS
from recipes.builtin_voice.csm.utterances import SPEAKER_AT, Utterances

DIALOGUE_SHARE = 0.3
TURNS = np.array([2, 3, 4, 5, 6, 8, 10, 12])
TURNS_SHARES = np.array([0.22, 0.22, 0.14, 0.1, 0.1, 0.08, 0.08, 0.06])
LONGEST = 1200  # positions of a dialogue
MONOLOGUE_SHARE = 0.4  # of the dialogues: one speaker says it all
SWAPPED_SHARE = 0.5
TURNS_SUMS = np.cumsum(TURNS_SHARES)[:-1]
OTHER_SPEAKERS_SHARE = 0.2  # of the sequences: speakers other than 0 and 1
HEARD_DIALOGUES, HEARD_TURNS = (
    0.5,
    0.5,
)  # this share of dialogues has this share of turns from recordings, which are not in the loss

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Segment:
    """One turn of a sequence."""

    utterance: int
    speaker: int
    is_learned: bool
    is_heard: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """B rows padded to one length T; padding is text that nothing is learned from.

    tokens: (B, T, K + 1); is_audio: (B, T); learned: (N,) the places in B * T of the frames that count, ends of speech
    among them; deep: (M,) places in N of those whose other codebooks are asked for; phones: (N, parts).
    """

    tokens: Tensor
    is_audio: Tensor
    learned: Tensor
    deep: Tensor
    phones: Tensor


class TrainingCorpus:
    """Batches of sequences made of utterances."""

    def __init__(self, utterances: Utterances, misheard: Misheard) -> None:
        self.utterances, self._misheard = utterances, misheard
        self._of_voice: list[Ints] = []

    def batches(
        self, random: np.random.Generator, *, positions: int, dialogue_share: float, depth_share: float, pool: int
    ) -> Iterator[Batch]:
        """Once through a pool of new sequences; rows of like length together, at most so many positions a batch."""
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
        heard_share = HEARD_TURNS if random.random() < HEARD_DIALOGUES else 0.0
        turns = int(TURNS[np.searchsorted(TURNS_SUMS, random.random())])
        known: set[int] = set()
        row: list[Segment] = []
        length = 0
        chances = random.random((turns, 3)).tolist()
        for turn, (for_speaker, for_utterance, for_heard) in enumerate(chances):
            speaker = speakers[int(for_speaker * len(speakers))]
            its = self._of_voice[(speaker + swapped) % 2]
            utterance = int(its[int(for_utterance * len(its))])
            length += int(lengths[utterance])
            if row and length > LONGEST:
                break
            heard = turn < turns - 1 and for_heard < heard_share
            row.append(Segment(utterance, speaker, not heard and (not swapped or speaker in known), heard))
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
        first = ends - sizes - row_starts[row_of] + row_of * width  # place of a segment's first position in B * T
        text_at, text_from = _ranges(first, texts), _ranges(said.text_starts[which], texts)
        frame_at, frame_from = _ranges(first + texts, frames), _ranges(said.frame_starts[which], frames)
        learned = np.array([segment.is_learned for segment in segments])
        is_heard = np.repeat([segment.is_heard for segment in segments], frames)
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
        if is_heard.any():
            tokens[put(frame_at[is_heard]), :-1] = self._misheard(said.codes[put(frame_from[is_heard])].long())
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
    """starts[0], starts[0] + 1, ... as many as lengths[0], and so on."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))
