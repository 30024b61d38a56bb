"""What is learned from and what is judged by never meet, in words or in figures."""

from __future__ import annotations

import re
from itertools import islice

from recipes.builtin_voice.sentences import split_of
from recipes.builtin_voice.texts import FIGURES, in_figures, texts


def test_splits_share_no_text() -> None:
    learned, judged = (set(islice(texts(split, 3), 3000)) for split in ("train", "held-out"))
    assert learned and judged and not learned & judged


def test_a_sentence_that_is_held_out_is_not_learned_in_figures() -> None:
    in_words = {figure: word for word, figure in FIGURES.items()}
    learned = [text for text in islice(texts("train", 4, {"domain": 1.0}), 3000) if re.search(r"\d", text)]
    assert len(learned) > 200
    assert {split_of(re.sub(r"\d+", lambda match: in_words[match[0]], text)) for text in learned} == {"train"}


def test_figures_replace_number_words_only() -> None:
    assert in_figures("It is seven past twelve and the tent is closed.") == "It is 7 past 12 and the tent is closed."


def test_the_same_seed_gives_the_same_texts() -> None:
    assert list(islice(texts("train", 5), 100)) == list(islice(texts("train", 5), 100))
