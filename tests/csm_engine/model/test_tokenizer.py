"""A text becomes the tokens of all of its characters, and no others."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer

from csm_engine.model.tokenizer import TextTokenizer
from tests.support.tiny.tokenizer import byte_tokenizer


def test_truncation_and_padding_that_the_file_was_saved_with_do_not_touch_the_text(tmp_path: Path) -> None:
    plain = byte_tokenizer(tmp_path, 320)
    saved = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    saved.enable_truncation(8)
    saved.enable_padding(length=8)
    saved.save(str(tmp_path / "used.json"))
    used = TextTokenizer(tmp_path / "used.json", 320)
    for text in ("a", "Longer than eight tokens."):
        assert used.encode(0, text) == plain.encode(0, text)


def test_other_threads_run_while_a_long_text_is_tokenized(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(tmp_path, 320)
    assert any(longest_wait_beside(lambda: tokenizer.encode(0, "word " * 20_000)) < 0.5 for _ in range(5))


def longest_wait_beside(function: Callable[[], object]) -> float:
    """The longest time that another thread is blocked while the function runs, as a share of its run time."""
    seconds = list[float]()

    def call() -> None:
        at = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - at)

    thread = threading.Thread(target=call)
    times = [time.perf_counter()]
    thread.start()
    while not seconds:
        time.sleep(0)
        times.append(time.perf_counter())
    thread.join()
    return max(later - earlier for earlier, later in itertools.pairwise(times)) / seconds[0]
