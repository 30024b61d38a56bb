"""The word error rate of each turn of a long conversation, with its context and alone.

The context of a turn is the voice's own earlier turns. The same texts without a context tell what the context costs.

python -m recipes.builtin_voice.evaluation.long_talk bundles/builtin --talks 4 --turns 12
"""

from __future__ import annotations

import argparse
import json
from itertools import islice
from pathlib import Path

import torch

from csm_engine.types import Segment
from recipes.builtin_voice.evaluation.recognizer import recognize_all
from recipes.builtin_voice.evaluation.sets import EvaluationText, evaluation_texts
from recipes.builtin_voice.evaluation.voice import Voice

GROUP = 4  # turns in one row


def errors_by_turn(
    voice: Voice, texts: list[list[EvaluationText]], listeners: int, *, context: bool = True
) -> list[tuple[int, int]]:
    """Wrong words and words of each turn, all talks together.

    texts: of a talk, the same number for each. context: whether a turn has the earlier ones as its context
    """
    talks: list[list[Segment]] = [[] for _ in texts]
    counts = []
    for turn in range(len(texts[0])):
        asked = [talk[turn] for talk in texts]
        speakers = [(turn + number) % 2 for number in range(len(texts))]
        nexts = [Segment(speaker, text.text) for speaker, text in zip(speakers, asked, strict=True)]
        prompts = [[*(talk if context else ()), new] for talk, new in zip(talks, nexts, strict=True)]
        sayings = voice.say(prompts, first_seed=1000 * turn)
        for talk, new, saying in zip(talks, nexts, sayings, strict=True):
            talk.append(Segment(new.speaker, new.text, saying.codes))
        heard = recognize_all(None, [saying.pcm for saying in sayings], voice.sample_rate_hz, listeners)
        pairs = [text.word_errors(words) for text, words in zip(asked, heard, strict=True)]
        counts.append((sum(wrong for wrong, _ in pairs), sum(words for _, words in pairs)))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--talks", type=int, default=8)
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--set", default="everyday")
    parser.add_argument("--listeners", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    chosen = iter(evaluation_texts(arguments.set))
    texts = [list(islice(chosen, arguments.turns)) for _ in range(arguments.talks)]
    voice = Voice(arguments.bundle)
    talk = errors_by_turn(voice, texts, arguments.listeners)
    alone = errors_by_turn(voice, texts, arguments.listeners, context=False)
    for start in range(0, len(talk), GROUP):
        turns = slice(start, start + GROUP)
        row = {
            "turns": [start, min(start + GROUP, len(talk)) - 1],
            "words": sum(words for _, words in talk[turns]),
            "words_wrong": _rate(talk[turns]),
            "words_wrong_alone": _rate(alone[turns]),
        }
        print(json.dumps(row), flush=True)


def _rate(counts: list[tuple[int, int]]) -> float:
    return round(sum(wrong for wrong, _ in counts) / sum(words for _, words in counts), 4)


if __name__ == "__main__":
    main()
