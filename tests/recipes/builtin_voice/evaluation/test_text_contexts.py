"""What is counted of long texts, by how many earlier sentences are context."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from csm_engine.types import Segment
from recipes.builtin_voice.evaluation import text_contexts
from recipes.builtin_voice.evaluation.sets import EvaluationText
from recipes.builtin_voice.evaluation.text_contexts import LongTexts, PooledRounds, Window
from recipes.builtin_voice.evaluation.voice import Saying

SENTENCES = [EvaluationText(f"word{'abcdefgh'[index]} again.", ("two words",)) for index in range(8)]


class FakeVoice:
    """Frames tell how many sentences of context there were; one sentence has no sound."""

    sample_rate_hz = 24_000

    def __init__(self) -> None:
        self.asked: list[tuple[list[Segment], int]] = []

    def say(self, requests: Sequence[Sequence[Segment]], *, first_seed: int = 0) -> list[Saying]:
        self.asked += [(list(request), first_seed + index) for index, request in enumerate(requests)]
        return [self._said(request) for request in requests]

    def _said(self, request: Sequence[Segment]) -> Saying:
        silent = request[-1].text == SENTENCES[3].text
        codes = np.full((0 if silent else 2, 4), len(request) - 1, np.int16)
        return Saying(np.full(3, len(request) - 1, np.float32), codes, True, 10 * (len(request) - 1))


@pytest.mark.parametrize(
    ("window", "counts"),
    [
        ("3-3", [0, 1, 2, 3, 3, 3, 3, 3]),
        ("1-3", [0, 1, 2, 3, 1, 2, 3, 1]),
        ("3-6", [0, 1, 2, 3, 4, 5, 6, 3]),
        ("0-0", [0] * 8),
    ],
)
def test_a_window_grows_to_its_maximum_and_restarts_at_its_minimum(window: str, counts: list[int]) -> None:
    found = Window.of(window)
    assert str(found) == window and counts[0] == 0
    assert [found.after(count) for count in counts[:-1]] == counts[1:]


def test_windows_are_compared_over_the_same_texts_and_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    def recognize_all(grammar: None, clips: list[np.ndarray], rate: int, processes: int) -> list[str]:
        return [("two", "one two", "two words")[min(2, int(clip[0]))] for clip in clips]

    monkeypatch.setattr(text_contexts, "recognize_all", recognize_all)
    voice, (slides, begins) = FakeVoice(), map(Window.of, ("2-2", "1-2"))
    texts = LongTexts(voice, SENTENCES, 8, 1)  # type: ignore[arg-type]
    found = texts.next_round([slides, begins], orders=1)
    asked = [[(request[-1], seed) for request, seed in voice.asked[half : half + 16]] for half in (0, 16)]
    assert asked[0] == asked[1]
    for request, _ in voice.asked:
        assert SENTENCES[3].text not in [segment.text for segment in request[:-1]]  # it had no sound
    rows = [PooledRounds([found]).row(window, slides) for window in (slides, begins)]
    assert [row["words"] for row in rows] == [32, 32]
    assert rows[0]["change"] == rows[0]["change_low"] == 0
    low, high = rows[1]["change_low"], rows[1]["change_high"]
    assert low <= rows[1]["change"] <= high and rows[1]["change"] > 0  # type: ignore[operator]
    assert rows[1]["context_positions"] < rows[0]["context_positions"]  # type: ignore[operator]
