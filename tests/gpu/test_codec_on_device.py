"""The codec's captured steps on a CUDA device, compared with the eager functions and with the codec on a CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch

from csm_bundle.runtime.captured import use_own_stream
from csm_codec.buckets import buckets_up_to
from csm_codec.codec import Codec
from csm_codec.mimi.batch.lanes import BatchLanes
from csm_codec.mimi.batch.network import TAKES_PART
from csm_codec.mimi.decoder import Form, MimiDecoder
from csm_codec.mimi.loader import Mimi, load_mimi
from csm_codec.stream import Audio, Checkpoint, DecodeOptions
from csm_codec.watermark.detect.detector import detect
from csm_codec.watermark.embed.embedder import Embedder
from csm_codec.watermark.embed.spectral_embedder import SpectralEmbedder
from csm_codec.watermark.keys.keyring import Keyring, WatermarkKey
from csm_codec.watermark.networks.silentcipher import SilentCipher, load_silentcipher
from csm_codec.watermark.stream.look_ahead import ADAPTIVE
from tests.gpu.device import DEVICE, ON_GPU, put, times

BUILTIN = Path(__file__).parents[2] / "bundles" / "builtin"
KEY = WatermarkKey("key", b"\x11\xc8\x21\x04\xfa")
WIDTH, FRAMES = (24, 30) if ON_GPU else (5, 6)  # a CPU takes many minutes for what a device does in seconds
FEWEST, MOST = (8, 15) if ON_GPU else (2, 4)  # streams beside one; one bucket holds it and any number between
FRAMES_OF_A_MARK = 30  # enough to find it
Refused = Callable[[], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def mimi() -> Mimi:
    return load_mimi(BUILTIN / "mimi", device=DEVICE)


@pytest.fixture(scope="module")
def silentcipher() -> SilentCipher:
    return load_silentcipher(BUILTIN / "silentcipher", device=DEVICE)


def new_codec(mimi: Mimi, silentcipher: SilentCipher, width: int = WIDTH, *, constant: bool = False) -> Codec:
    """On a CPU the same code, which default tests hold against the codec of CPUs."""
    embedder = Embedder(
        silentcipher, sample_rate_hz=24000, num_slots=width, lane_width=width, look_ahead=ADAPTIVE, first_samples=1920,
        constant_shape=constant,
    )  # fmt: skip
    decoder = MimiDecoder(mimi, num_lanes=1, lane_width=width, form=Form.BATCH, constant_shape=constant)
    return Codec(decoder, embedder, Keyring(KEY, {KEY.id: KEY}))


@pytest.fixture(scope="module")
def codec(mimi: Mimi, silentcipher: SilentCipher) -> Codec:
    return new_codec(mimi, silentcipher)


def codes_of(mimi: Mimi, seed: int, frames: int = FRAMES) -> np.ndarray:
    identity = mimi.identity
    return np.random.default_rng(seed).integers(0, identity.codebook_size, (frames, identity.codebook_count))


def sound(
    codec: Codec, codes: np.ndarray, others: int = 0, before: int = 0, checkpoint: Checkpoint | None = None
) -> tuple[np.ndarray, list[Checkpoint]]:
    """Of one stream, beside others. before: of these, the ones that take the rows in front of it."""
    noise = [codec.open() for _ in range(before)]
    point = checkpoint.point if checkpoint else None
    stream = codec.open(DecodeOptions(point=point, checkpoint_frames=5))
    noise += [codec.open() for _ in range(others - before)]
    for index, other in enumerate(noise):
        codec.push(other, np.roll(codes, index + 1, axis=0))
    codec.push(stream, codes[stream.start.first_frame :])
    codec.finish(stream)
    pcm, checkpoints = [], []
    while not stream.ended:
        for output in codec.step():
            if isinstance(output, Audio) and output.stream is stream:
                pcm.append(output.pcm)
                checkpoints += [output.checkpoint] if output.checkpoint else []
    for other in noise:
        codec.cancel(other)
    return np.concatenate(pcm), checkpoints


def test_sound_is_that_of_a_cpu_and_the_mark_is_found(mimi: Mimi, codec: Codec, silentcipher: SilentCipher) -> None:
    on_cpu = load_mimi(BUILTIN / "mimi"), load_silentcipher(BUILTIN / "silentcipher")
    codes = codes_of(mimi, 0, FRAMES_OF_A_MARK)
    expected, _ = sound(new_codec(*on_cpu, 2), codes)
    made, _ = sound(codec, codes, others=4)
    assert len(made) == len(expected) == FRAMES_OF_A_MARK * 1920
    assert np.abs(made - expected).max() < 1e-2 * np.abs(expected).max()  # the vendor may multiply in TF32
    found = detect(on_cpu[1], [KEY], made, 24000)
    assert found.detected and found.key_id == KEY.id


def test_row_and_neighbours_change_no_bit_within_a_bucket(mimi: Mimi, codec: Codec) -> None:
    """Rows from the ninth on share a bucket. Between buckets a vendor's library may add in another order."""
    expected, _ = sound(codec, codes_of(mimi, 0), others=FEWEST)
    assert np.array_equal(sound(codec, codes_of(mimi, 0), others=MOST, before=FEWEST + 1)[0], expected)


def test_constant_shape_gives_the_same_bits_however_many_streams_there_are(
    mimi: Mimi, silentcipher: SilentCipher
) -> None:
    constant = new_codec(mimi, silentcipher, constant=True)
    alone, _ = sound(constant, codes_of(mimi, 0))
    assert np.array_equal(sound(constant, codes_of(mimi, 0), others=WIDTH - 1, before=WIDTH // 2 - 1)[0], alone)


def test_a_stream_continues_from_a_checkpoint_bit_for_bit_in_constant_shape(
    mimi: Mimi, silentcipher: SilentCipher
) -> None:
    codes = codes_of(mimi, 0, 2 * FRAMES)
    whole, checkpoints = sound(new_codec(mimi, silentcipher, constant=True), codes)
    other = new_codec(mimi, silentcipher, constant=True)  # as another replica of the same settings
    rest, _ = sound(other, codes, others=3, before=2, checkpoint=checkpoints[-2])
    assert np.array_equal(rest, whole[checkpoints[-2].start.first_sample :])


def test_a_thread_with_a_stream_of_its_own_gives_the_same_bits(mimi: Mimi, codec: Codec) -> None:
    expected, _ = sound(codec, codes_of(mimi, 0), others=FEWEST)
    with ThreadPoolExecutor(1, initializer=use_own_stream, initargs=(codec.device,)) as thread:
        found, _ = thread.submit(sound, codec, codes_of(mimi, 0), FEWEST).result()
    assert np.array_equal(found, expected)


@torch.inference_mode()
def test_captured_frame_equals_the_eager_one_bit_for_bit(mimi: Mimi) -> None:
    lanes = BatchLanes(mimi, 1, WIDTH, torch.float32, constant_shape=True)
    network = lanes._network
    table, state, pcm = network.new_table(WIDTH), network.new_state(WIDTH), network.new_pcm(WIDTH)
    every, none = torch.ones(WIDTH, dtype=torch.bool), torch.zeros(WIDTH, dtype=torch.bool)
    for index in range(FRAMES):
        codes = torch.from_numpy(codes_of(mimi, index, WIDTH))
        table[:, : network.num_codebooks] = put(codes)
        table[:, network.num_codebooks] = index * network.steps
        table[:, network.num_codebooks + TAKES_PART] = 1
        network.step(table, state, pcm)
        assert torch.equal(lanes.frame_step(0, codes, every, every if index == 0 else none), pcm.float().cpu())


@torch.inference_mode()
def test_launches_wait_for_nothing(codec: Codec, refuse_host_syncs: Refused) -> None:
    lanes, (embedder,) = codec._decoder._half, codec._embedder._lanes
    assert isinstance(lanes, BatchLanes) and isinstance(embedder, SpectralEmbedder)
    with refuse_host_syncs():
        for bucket in buckets_up_to(WIDTH):
            lanes._lanes[0]._steps[bucket, True]()
            lanes._lanes[0]._steps[bucket, False]()
            embedder._messages_of[bucket]()
            embedder._near()
            embedder._blocks_of[bucket]()


def test_a_codec_frame_is_a_launch_of_mimi_and_a_few_of_the_mark(mimi: Mimi, codec: Codec) -> None:
    stream = codec.open()
    codes = codes_of(mimi, 0, 4)
    for frame in codes[:3]:
        codec.push(stream, frame[None])
        codec.step()
    codec.push(stream, codes[3:])
    with torch.profiler.profile(acc_events=True) as profile:
        codec.step()
    codec.cancel(stream)
    calls = Counter(event.name for event in profile.events() if event.name.startswith(("cuda", "cu")))
    assert (calls["cudaLaunchKernel"] == 0 and 3 <= calls["cudaGraphLaunch"] <= 1 + 4 * 3) == ON_GPU, calls


def test_a_thousand_frames_allocate_nothing(mimi: Mimi, codec: Codec) -> None:
    stream = codec.open()
    codes = codes_of(mimi, 0, 10 + len(times(1000)))
    for frame in codes[:10]:
        codec.push(stream, frame[None])
        codec.step()
    before = torch.cuda.memory_allocated()
    codec.push(stream, codes[10:])
    while codec.has_work:
        codec.step()
    assert torch.cuda.memory_allocated() == before
    codec.cancel(stream)
