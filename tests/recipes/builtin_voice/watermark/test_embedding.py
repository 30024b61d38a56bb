"""The recipe trains what the service computes, on sentences that are kept apart."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch

from csm_codec.watermark.embed.embedder import mark_clip
from csm_codec.watermark.keys.payload import PERIOD, frame_symbols
from csm_codec.watermark.networks.silentcipher import SilentCipher, load_silentcipher
from csm_codec.watermark.stream.level import Level
from recipes.builtin_voice.sentences import sentences, split_of
from recipes.builtin_voice.watermark.distortions import mu_law
from recipes.builtin_voice.watermark.embedding import TrainingEmbedder
from tests.support.silentcipher_oracle import FixedLevel
from tests.support.tiny.silentcipher import write_tiny_silentcipher

FRAMES, HOP = 40, 128


@pytest.fixture(scope="module")
def silentcipher(tmp_path_factory: pytest.TempPathFactory) -> SilentCipher:
    folder = tmp_path_factory.mktemp("silentcipher")
    write_tiny_silentcipher(folder, 0, n_fft=2 * HOP)
    return load_silentcipher(folder)


def test_the_embedder_in_training_is_the_one_in_service(silentcipher: SilentCipher) -> None:
    """Away from the crop's ends, where the service sees audio and training none."""
    pcm = (0.1 * np.random.default_rng(0).standard_normal((FRAMES + 1) * HOP)).astype(np.float32)
    symbols = frame_symbols(bytes((1, 20, 130, 7, 250)))
    level = Level(gain=1.5, magnitude=2.0)
    streamed = mark_clip(silentcipher, pcm, 24000, symbols, FixedLevel(level)) - pcm
    # The first whole window is the service's second frame: half of its first one is mirrored.
    trained = TrainingEmbedder(silentcipher).mark(
        torch.from_numpy(pcm)[None],
        torch.tensor([[symbols[(frame + 1) % PERIOD] for frame in range(FRAMES)]]),
        torch.full((1, FRAMES), level.gain),
        torch.full((1, FRAMES), level.magnitude),
        silentcipher.hparams.sdr_db,
    )[0]
    inside = slice(12 * HOP, -12 * HOP)
    difference = trained.numpy()[inside] - streamed[HOP:-HOP][inside]
    assert np.abs(difference).max() < 1e-4 * np.abs(streamed).max()


def test_no_sentence_is_in_both_splits() -> None:
    trained, held_out = (set(islice(sentences(split, seed=0), 300)) for split in ("train", "held-out"))
    assert not trained & held_out
    assert len(trained) > 250 and len(held_out) > 200
    assert all(split_of(sentence) == "held-out" for sentence in held_out)


def test_mu_law_keeps_its_own_values_and_the_scale() -> None:
    pcm = np.linspace(-1, 1, 20_001, dtype=np.float32)
    heard = mu_law(pcm)
    assert len(set(heard.tolist())) == 255  # 256 codes, of which two are zero
    assert np.array_equal(mu_law(heard), heard)
    assert np.abs(heard - pcm).max() < 1 / 60
