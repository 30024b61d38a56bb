"""The training texts of the voice: natural text, everyday talk, sentences of the domain, small talk.

    python -m recipes.builtin_voice.texts build/voice/texts-train.txt --texts 300000

Natural text is WordNet's: example sentences and definitions (wordnet.py). Everyday talk comes from templates
(everyday.py), the domain from those of sentences.py. There are no figures: the text front end turns them into words.
The text itself decides whether it is held out. Texts of the evaluation are in neither split, nor is any text that
shares six words in a row with one. It knows no audio.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np

from recipes.builtin_voice.everyday import Everyday
from recipes.builtin_voice.sentences import Split, sentences, split_of
from recipes.builtin_voice.wordnet import read_wordnet

SHARES = {"examples": 0.28, "definitions": 0.2, "everyday": 0.36, "domain": 0.1, "small talk": 0.06}
JOINED_SHARE = 0.1  # of the texts consist of two
JOINED_WORDS = 16  # at most, in such a text
JUDGED = Path(__file__).parent / "evaluation" / "texts"
SHARED_RUN = 6  # words

_OPENINGS = (
    "Hello. Hi. Good morning. Good evening. Good night. Hello again. Hi there. Welcome back. Thank you. Thanks a lot."
    " You are welcome. Excuse me. I am sorry. Of course. Not at all. Well, yes. No, not yet. Maybe later. All right."
    " That is true. I see. Really? Wonderful. Oh no."
)
_TURNS = (
    "How are you today? How are you? And you? I am fine. I am very well. What is your name? Nice to meet you."
    " Where are you from? What time is it? Can you hear me? Can you help me? What do you think? I do not know."
    " Tell me more. Tell me about your day. Where have you been? I have been at home. See you tomorrow. See you soon."
    " Take care. Have a nice day. Let me think about it. That sounds good. Say that again. I did not hear that."
    " Hello from the other side. Hello world. This is a test. One, two, three. Who is there? It is me."
    " I would like a cup of coffee. How was your weekend? It was great. I missed the train. What happened?"
    " Do you want to go for a walk? Yes, I would love to. The weather is nice. It is raining again."
    " The quick brown fox jumps over the lazy dog. Please speak slowly. I can speak. Listen to me."
)


def texts(split: Split, seed: int, shares: dict[str, float] = SHARES) -> Iterator[str]:
    """Texts without end. Raises FileNotFoundError without WordNet."""
    random = np.random.default_rng(seed)
    sources = _sources(split, random)
    kinds, chances = list(shares), np.array(list(shares.values())) / sum(shares.values())
    waiting = ""
    while True:
        text = next(sources[str(random.choice(kinds, p=chances))])
        if waiting and len(f"{waiting} {text}".split()) <= JOINED_WORDS:
            text, waiting = f"{waiting} {text}", ""
        elif not waiting and random.random() < JOINED_SHARE:
            waiting = text
            continue
        yield text


def words_of(text: str) -> list[str]:
    return re.sub(r"[^a-z' ]", " ", text.lower()).split()


def _sources(split: Split, random: np.random.Generator) -> dict[str, Iterator[str]]:
    wordnet = read_wordnet()
    domain = sentences(split, int(random.integers(2**31)))  # has its own split
    return {
        "examples": _usable(_shuffled(wordnet.examples, random), split),
        "definitions": _usable(_shuffled(wordnet.definitions, random), split),
        "everyday": _usable(Everyday(random, wordnet), split),
        "domain": (text for text in domain if not _is_judged(text)),
        "small talk": _usable(_small_talk(random), split),
    }


def _usable(chosen: Iterable[str], split: Split) -> Iterator[str]:
    return (text for text in chosen if split_of(text) == split and not _is_judged(text))


def _shuffled(chosen: tuple[str, ...], random: np.random.Generator) -> Iterator[str]:
    """All of them in random order, again and again."""
    while True:
        for index in random.permutation(len(chosen)):
            yield chosen[index]


def _small_talk(random: np.random.Generator) -> Iterator[str]:
    openings, turns = _phrases(_OPENINGS), _phrases(_TURNS)
    while True:
        chosen = random.choice(turns, size=int(random.integers(1, 3)), replace=False).tolist()
        if random.random() < 0.6:
            chosen.insert(0, str(random.choice(openings)))
        yield " ".join(chosen)


def _is_judged(text: str) -> bool:
    """Whether it is a text of the evaluation, or shares a run of words with one."""
    words = words_of(text)
    runs = {" ".join(words[start : start + SHARED_RUN]) for start in range(max(1, len(words) - SHARED_RUN + 1))}
    return not runs.isdisjoint(_judged_runs())


@cache
def _judged_runs() -> frozenset[str]:
    """All runs of SHARED_RUN words; the whole text if it is shorter."""
    runs = set()
    for path in JUDGED.glob("*.txt"):
        for line in path.read_text().splitlines():
            for said in line.replace("|", "\t").split("\t"):
                words = words_of(said)
                runs |= {" ".join(words[i : i + SHARED_RUN]) for i in range(max(1, len(words) - SHARED_RUN + 1))}
    return frozenset(runs)


def _phrases(text: str) -> list[str]:
    phrases = text.replace(". ", ".|").replace("? ", "?|").split("|")
    return [phrase.strip() for phrase in phrases]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--split", choices=["train", "held-out"], default="train")
    parser.add_argument("--texts", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.path.exists():
        print(f"{arguments.path} is there already")
        return
    arguments.path.parent.mkdir(parents=True, exist_ok=True)
    draft = arguments.path.with_suffix(".new")
    chosen = islice(texts(arguments.split, arguments.seed), arguments.texts)
    draft.write_text("".join(text + "\n" for text in chosen))
    draft.rename(arguments.path)


if __name__ == "__main__":
    main()
