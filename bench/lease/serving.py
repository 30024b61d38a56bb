"""Part of a lease: the engine under open load, from one stream to a thousand, with simulated playback of each.

    python3 -m bench.lease.serving --levels 1,16,64,256,512,768,1000 --form plain

It runs in one process, without network and codec, so the figures are the engine's alone. `ttfa_ms` is the time from the
request to its first frame. `with_0_ms_buffer` is for players that start with the first frame, `with_160_ms_buffer` for
players that wait for two frames more. `streams/open_load.py` defines the load.
"""

from __future__ import annotations

import time

from bench.command import integers
from bench.lease.forms import FORMS, slots_that_fit
from bench.lease.options import Given, opened, parser
from bench.lease.streams import open_load
from bench.lease.streams.running_engine import running_engine
from csm_engine.config import EngineConfig

_MORE_SLOTS = 24  # than wanted streams, as random arrivals exceed the mean


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--form", choices=FORMS, default="plain")
    options.add_argument("--levels", type=integers, default=[1, 16, 64, 256, 512, 768, 1000], help="streams at once")
    options.add_argument("--warm-s", type=float, default=6.0, help="seconds before the measured window of a level")
    options.add_argument("--window-s", type=float, default=15.0, help="seconds that are measured")
    options.add_argument("--mean-frames", type=int, default=125, help="of an utterance: 10 s")
    options.add_argument(
        "--max-playout-lead-s", type=float, default=2.0, help="seconds that a stream may be ahead; 0 is no limit"
    )
    options.add_argument("--saturation-batch", type=int, default=64)
    options.add_argument("--prefill-chunk", type=int, default=256)
    options.add_argument("--context-frames", type=int, default=0, help="of a turn before each utterance, all unlike")
    options.add_argument("--same-texts", action="store_true", help="four texts, whose prompts are soon all reused")
    arguments = options.parse_args()
    figures = opened("serving", arguments)
    given = Given.by(arguments)
    most = slots_that_fit(given, arguments.form) - _MORE_SLOTS
    levels = [level for level in sorted(arguments.levels) if level <= most]
    if len(levels) < len(arguments.levels):
        figures.add(form=arguments.form, left_out=sorted(arguments.levels)[len(levels) :], streams_that_fit=most)
    slots = max(levels) + _MORE_SLOTS
    config = EngineConfig(
        slots=slots,
        spare_slots=0,
        max_waiting=4 * slots,
        prefill_chunk=arguments.prefill_chunk,
        max_playout_lead_seconds=arguments.max_playout_lead_s,
        saturation_batch=min(arguments.saturation_batch, slots),
        pipeline_depth=int(given.on_gpu),
    )
    began = time.monotonic()
    with running_engine(given, arguments.form, config) as engine:
        ready_s = round(time.monotonic() - began, 1)
        figures.add(
            form=arguments.form,
            slots=slots,
            max_playout_lead_s=arguments.max_playout_lead_s,
            prefill_chunk=arguments.prefill_chunk,
            saturation_batch=config.saturation_batch,
            ready_s=ready_s,
        )
        open_load.run(engine, open_load.Load(min(4, slots), 0.5, 0.5, 12))  # warm-up
        for level in levels:
            load = open_load.Load(
                level,
                arguments.warm_s,
                arguments.window_s,
                # Few streams get short utterances, so that there are enough first frames to measure.
                max(min(20, arguments.mean_frames), min(arguments.mean_frames, 8 * level)),
                arguments.context_frames,
                given.model.num_codebooks,
                given.model.codebook_size,
                arguments.same_texts,
            )
            figures.add(form=arguments.form, same_texts=arguments.same_texts, **open_load.run(engine, load))


if __name__ == "__main__":
    main()
