"""What the voice learns to say: sentences of the domain, turns of small talk, and free text of common words.

Half of it is the domain (sentences.py), in which the figures of the model card are taken; small talk is what people
try first; free text teaches how English is spelled. Some numbers stand in figures; a sentence that is held out in
words is held out in figures too. The words of free text come in the order of how often they are
used (package `wordfreq`, whose data is CC BY-SA 4.0), drawn without grammar. It knows no audio.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from wordfreq import top_n_list

from recipes.builtin_voice.sentences import WORDS, Split, sentences, split_of

SHARES = {"domain": 0.5, "small talk": 0.2, "free text": 0.3}
VOCABULARY = 6000  # words of free text
LENGTHS = range(3, 10)  # words of a free sentence
FIGURES_SHARE = 0.15  # of the domain's sentences, and of free text
FIGURES = dict(zip(WORDS["number"], "2 3 4 5 6 7 8 9 10 11 12 15 20 30 40".split(), strict=True))

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
    """Without end. Of small talk and free text, like of the domain, what is held out follows from the text itself."""
    random = np.random.default_rng(seed)
    domain = sentences(split, int(random.integers(2**31)))
    words = _weighted_words()
    kinds = list(shares)
    while True:
        kind = random.choice(kinds, p=np.array(list(shares.values())) / sum(shares.values()))
        match kind:
            case "domain":
                sentence = next(domain)
                yield in_figures(sentence) if random.random() < FIGURES_SHARE else sentence
                continue
            case "small talk":
                text = _small_talk(random)
            case _:
                text = _free_text(random, *words)
        if split_of(text) == split:
            yield text


def in_figures(sentence: str) -> str:
    """With its numbers in figures."""
    return re.sub(r"\b[a-z]+\b", lambda match: FIGURES.get(match[0], match[0]), sentence)


def _small_talk(random: np.random.Generator) -> str:
    count = int(random.integers(1, 3))
    turns = [str(turn) for turn in random.choice(_phrases(_TURNS), size=count, replace=False)]
    if random.random() < 0.6:
        turns.insert(0, str(random.choice(_phrases(_OPENINGS))))
    return " ".join(turns)


def _free_text(random: np.random.Generator, words: list[str], weights: np.ndarray) -> str:
    chosen = [str(word) for word in random.choice(words, size=int(random.choice(list(LENGTHS))), p=weights)]
    if len(chosen) > 5 and random.random() < 0.5:
        chosen[len(chosen) // 2] += ","
    if random.random() < FIGURES_SHARE:
        chosen[int(random.integers(len(chosen)))] = _number(random)
    text = " ".join(chosen) + ("?" if random.random() < 0.1 else ".")
    return text[0].upper() + text[1:]


def _number(random: np.random.Generator) -> str:
    """A count, a year or a time of day."""
    match int(random.integers(3)):
        case 0:
            return str(int(10 ** random.uniform(0, 4)))
        case 1:
            return str(int(random.integers(1900, 2030)))
        case _:
            return f"{random.integers(1, 13)}:{random.integers(60):02}"


def _weighted_words() -> tuple[list[str], np.ndarray]:
    """Rarer words more often than they are used: a word is learned from a few hearings."""
    words = [word for word in top_n_list("en", 2 * VOCABULARY) if word.isalpha() and word.isascii()]
    words = [word for word in words if len(word) > 2 or word in _SHORT][:VOCABULARY]
    weights = (np.arange(len(words)) + 50.0) ** -0.5
    return words, weights / weights.sum()


def _phrases(text: str) -> list[str]:
    phrases = text.replace(". ", ".|").replace("? ", "?|").split("|")
    return [phrase.strip() for phrase in phrases]


_SHORT = frozenset("a i am an as at be by do go he if in is it me my no of oh on or so to up us we".split())
