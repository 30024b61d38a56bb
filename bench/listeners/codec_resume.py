"""How much a codec computes before a stream that was resumed at another replica has its first new sample.

    python -m bench.listeners.codec_resume --out bench/results/codec_resume_builtin_cpu.json

Seconds are those of the processor, of one thread, so that other programs on the machine count little. A stream that
continues from a checkpoint is compared with one that is decoded again from its first frame; that one's cost is the cost
of a frame, measured over `--frames` frames, times the frames.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from bench.codec_arms import Parts
from bench.command import parser_of
from bench.machine import result_head
from bench.report import write_result
from csm_codec.codec import Codec
from csm_codec.config import CPU_LANE_WIDTH
from csm_codec.stream import Audio, DecodeOptions, DecodeStream
from csm_codec.watermark.stream.look_ahead import ADAPTIVE
from csm_codec.watermark.stream.progress import START, MarkPoint

POSITIONS_S = (10.0, 60.0, 300.0)
AGAIN_FRAMES = 5 + 50 // 10  # a checkpoint is as old as the gateway's spacing; codes come in messages


def main() -> None:
    parser = parser_of("bench.listeners.codec_resume", __doc__)
    parser.add_argument("--bundle", default="bundles/builtin")
    parser.add_argument("--frames", type=int, default=60, help="frames over which a frame's cost is measured")
    parser.add_argument("--lane-width", type=int, default=4, choices=range(1, CPU_LANE_WIDTH + 1))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    head = result_head("codec_resume", bundle=arguments.bundle, lane_width=arguments.lane_width)
    parts = Parts.of_bundle(arguments.bundle, "cpu", torch.float32)
    codec = parts.codec(arguments.lane_width, ADAPTIVE)
    frame_s = _seconds_per_frame(codec, parts, arguments.frames)
    figures = {
        "frame_cpu_s": round(frame_s, 5),
        "latent_frames": codec._decoder.latent_frames,
        "audio_frames": codec._decoder.audio_frames,
        "rows": [_position(codec, parts, position_s, frame_s) for position_s in POSITIONS_S],
    }
    write_result(head | figures, arguments.out)


def _seconds_per_frame(codec: Codec, parts: Parts, num_frames: int) -> float:
    for count in (20, num_frames):  # a warm-up, which does not count
        stream = codec.open()
        codec.push(stream, parts.codes(count))
        began_s = time.thread_time()
        while stream.pending:
            codec.step()
        seconds = (time.thread_time() - began_s) / count
        codec.cancel(stream)
    return seconds


def _position(codec: Codec, parts: Parts, position_s: float, frame_s: float) -> dict[str, float]:
    """Resumes a stream that was lost at that position, `AGAIN_FRAMES` frames after its checkpoint."""
    identity = parts.mimi.identity
    position = round(position_s * identity.sample_rate_hertz / identity.frame_sample_count)
    hops = position * identity.frame_sample_count / (codec._embedder.n_fft / 2)
    point = MarkPoint((position - AGAIN_FRAMES) * identity.frame_sample_count, hops, hops, hops, int(hops), START)
    began_s = time.thread_time()
    stream = codec.open(DecodeOptions(point=point))
    codec.push(stream, parts.codes(position + 20 - stream.start.first_frame))
    replayed = position - stream.start.first_frame
    _step_until(codec, stream, position * identity.frame_sample_count)
    resumed_s = time.thread_time() - began_s
    codec.cancel(stream)
    return {
        "position_s": position_s,
        "frames_sent_again": replayed,
        "from_checkpoint_cpu_s": round(resumed_s, 3),
        "from_first_frame_cpu_s": round(position * frame_s, 2),
        "cpu_s_per_minute_said": round(resumed_s / (position_s / 60), 3),
    }


def _step_until(codec: Codec, stream: DecodeStream, sample: int) -> None:
    """Reads the call until it has sent a sample after that one."""
    while stream.num_samples <= sample:
        outputs = codec.step()
        assert any(isinstance(output, Audio) for output in outputs)


if __name__ == "__main__":
    main()
