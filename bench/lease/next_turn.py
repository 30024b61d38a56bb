"""Part of a lease: the next turn of a long conversation, by where its past is stored.

    python3 -m bench.lease.next_turn --positions 1990

It measures the time to the first frame of a request with a context that fills the window. The context of `new` is not
stored and is prefilled. `slot` finds it in the slot of the last turn, `copied` in a slot that another stream holds, and
`host` in host memory. Then it measures `new` and `slot` again while other streams run.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from bench.lease.figures import spread_ms
from bench.lease.forms import FORMS
from bench.lease.options import Given, opened, parser
from bench.lease.streams.open_load import TEXTS
from bench.lease.streams.running_engine import RunningEngine, Stream, running_engine
from csm_engine.config import EngineConfig
from csm_engine.model.shapes import ModelConfig
from csm_engine.types import GenerationRequest, SamplingParams, Segment

TURN_FRAMES = 150
ANSWER_FRAMES = 10
TIMEOUT_S = 60.0
_TEXT_POSITIONS = 8  # of a turn's text in addition to its letters, at most

Trial = tuple[float, Stream]  # seconds to the first frame


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--form", choices=FORMS, default="plain")
    options.add_argument("--positions", type=int, default=1990, help="of the conversation with its next turn, at most")
    options.add_argument("--trials", type=int, default=6)
    options.add_argument("--beside", type=int, default=64, help="streams that run in the second half")
    arguments = options.parse_args()
    figures, given = opened("next_turn", arguments), Given.by(arguments)
    config = EngineConfig(
        slots=arguments.beside + 2,
        spare_slots=2,
        max_waiting=2 * arguments.beside + 8,
        max_playout_lead_seconds=2.0,
        offload_bytes=2**33 if given.on_gpu else 2**28,
        pipeline_depth=int(given.on_gpu),
        reserved_frames=ANSWER_FRAMES,
    )
    with running_engine(given, arguments.form, config) as engine:
        turns = NextTurns(engine, given.model, arguments.positions, config.total_slots)
        cases: dict[str, Callable[[], Trial]] = {
            "new": turns.new,
            "slot": turns.slot,
            "copied": turns.copied,
            "host": turns.host,
        }
        turns.new()  # warm-up
        for beside, names in ((0, list(cases)), (arguments.beside, ["new", "slot"])):
            for number in range(beside):
                text = Segment(0, TEXTS[number % len(TEXTS)])
                sampling = SamplingParams(seed=number)
                engine.ask(GenerationRequest(f"beside {number}", [text], 1900, sampling, live=True))
            time.sleep(2.0 if beside else 0.0)
            for name in names:
                trials = [cases[name]() for _ in range(arguments.trials)]
                last = trials[-1][1].sequence
                assert last is not None
                figures.add(
                    form=arguments.form,
                    case=name,
                    beside=beside,
                    positions=len(last.result().prompt),
                    reused=last.result().reused,
                    restored=last.result().restored,
                    ttfa_ms=spread_ms(seconds for seconds, _ in trials),
                )
            engine.clear()


class NextTurns:
    """The cases. Each trial has a new conversation, of which nothing is stored yet."""

    def __init__(self, engine: RunningEngine, model: ModelConfig, positions: int, num_slots: int) -> None:
        """positions: limit of the next turn's whole prompt. num_slots: of the engine, spare ones included."""
        self._engine, self._model, self._num_slots = engine, model, num_slots
        self._room = positions
        self._count = 0

    def new(self) -> Trial:
        return self._answered(self._conversation())

    def slot(self) -> Trial:
        return self._checked(self._after_its_last_turn(lambda: None), restored=False)

    def copied(self) -> Trial:
        segments = self._conversation()
        holder = self._ask(segments, 1900)
        _wait(lambda: bool(holder.arrived_at_s), holder)
        trial = self._checked(self._answered(segments), restored=False)
        self._engine.abort(holder)
        return trial

    def host(self) -> Trial:
        return self._checked(self._after_its_last_turn(self._push_out), restored=True)

    def _after_its_last_turn(self, between: Callable[[], None]) -> Trial:
        segments = self._conversation()
        _, last = self._answered(segments)
        between()
        said = Segment(segments[-1].speaker, segments[-1].text, np.stack(last.frames))
        return self._answered([*segments[:-1], said, Segment(0, "And then?")])

    def _push_out(self) -> None:
        for number in range(self._num_slots + 1):
            self._ask([Segment(1, f"{self._count} {number} is short.")], 2).done.wait(TIMEOUT_S)

    def _answered(self, segments: list[Segment]) -> Trial:
        stream = self._ask(segments, ANSWER_FRAMES)
        if not stream.done.wait(TIMEOUT_S):
            raise TimeoutError(f"{stream.request.request_id} is not done after {TIMEOUT_S} s")
        if self._engine.error is not None:
            raise self._engine.error
        return stream.arrived_at_s[0] - stream.asked_at_s, stream

    def _ask(self, segments: list[Segment], max_frames: int) -> Stream:
        self._count += 1
        request = GenerationRequest(
            f"turn {self._count}", segments, max_frames, SamplingParams(seed=self._count), live=True
        )
        return self._engine.ask(request)

    def _conversation(self) -> list[Segment]:
        """Turns of random codes that leave room for an answer and one more short text."""
        numbers = np.random.default_rng(self._count)
        spoken = Segment(0, f"Number {self._count}: what do you think?")
        room = self._room - 2 * ANSWER_FRAMES - 2 * (len(spoken.text) + _TEXT_POSITIONS)
        segments: list[Segment] = []
        while True:
            text = f"{self._count} {TEXTS[len(segments) % len(TEXTS)]}"
            frames = min(TURN_FRAMES, room - len(text) - _TEXT_POSITIONS - 1)
            if frames < 1:
                return [*segments, spoken]
            codes = numbers.integers(1, self._model.codebook_size, (frames, self._model.num_codebooks))
            segments.append(Segment(len(segments) % 2, text, codes.astype(np.int16)))
            room -= frames + len(text) + _TEXT_POSITIONS + 1

    def _checked(self, trial: Trial, *, restored: bool) -> Trial:
        """Raises: RuntimeError when the context did not come from where the case says."""
        sequence = trial[1].sequence
        assert sequence is not None
        made = sequence.result()
        if made.reused < len(made.prompt) // 2 or bool(made.restored) != restored:
            raise RuntimeError(
                f"{made.reused} of {len(made.prompt)} positions were reused, {made.restored} of them restored;"
                f" most must be reused, and restored from host memory: {restored}"
            )
        return trial


def _wait(ready: Callable[[], bool], stream: Stream) -> None:
    until = time.monotonic() + TIMEOUT_S
    while not ready():
        if time.monotonic() > until:
            raise TimeoutError(f"{stream.request.request_id} has no frame after {TIMEOUT_S} s")
        time.sleep(0.001)


if __name__ == "__main__":
    main()
