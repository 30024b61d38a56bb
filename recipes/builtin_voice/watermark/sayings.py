"""Utterances of a bundle's voice and of its vocoder, for training and model selection; made once and stored.

The texts are of the kinds that the voice was trained on, in training or held out. No text of the evaluation is among
them, nor one that shares six words in a row with one (texts.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from csm_codec.resample import Pcm
from csm_engine.types import Segment
from csm_text.frontend import load
from recipes.builtin_voice import flite
from recipes.builtin_voice.csm.tokenizer import TEXT_FRONTEND
from recipes.builtin_voice.evaluation.voice import Voice
from recipes.builtin_voice.sentences import Split
from recipes.builtin_voice.texts import texts
from recipes.builtin_voice.vocoder import frames_of, synthesize
from recipes.builtin_voice.watermark.corpus import SEEDS, Corpus, joined, kept

LEAST_SECONDS = 3.5  # of a clip
MOST_WORDS = 16  # of a text
AT_ONCE = 64  # texts, between two lines of progress


def open_sayings(folder: Path, bundle: Path, split: Split, *, voice_texts: int, vocoder_texts: int) -> Corpus:
    """Kinds "NAME's voice" and "NAME's vocoder" for the speakers slt and rms, who say other texts each.

    Makes the clips unless the folder holds them. The texts are counted for each speaker.
    """
    path = folder / f"{split}-voice-{voice_texts}-{vocoder_texts}.npz"
    return kept(path, lambda: _make(bundle, split, voice_texts, vocoder_texts))


def _make(bundle: Path, split: Split, voice_texts: int, vocoder_texts: int) -> Iterator[tuple[str, Pcm]]:
    source = (text for text in texts(split, SEEDS[split]) if len(text.split()) <= MOST_WORDS)
    voice, normalize = Voice(bundle), load(TEXT_FRONTEND).normalize
    for speaker, name in enumerate(flite.VOICES):
        said: list[Pcm] = []
        chosen = list(islice(source, voice_texts))
        for first in range(0, len(chosen), AT_ONCE):
            requests = [[Segment(speaker, text)] for text in chosen[first : first + AT_ONCE]]
            said += [saying.pcm for saying in voice.say(requests, first_seed=first)]
            print(f"{split}: {name} has said {len(said)} of {voice_texts} texts", file=sys.stderr, flush=True)
        for clip in joined(said, LEAST_SECONDS):
            yield f"{name}'s voice", clip
        sung = [synthesize(frames_of(flite.utter(normalize(text), name))) for text in islice(source, vocoder_texts)]
        for clip in joined(sung, LEAST_SECONDS):
            yield f"{name}'s vocoder", clip
