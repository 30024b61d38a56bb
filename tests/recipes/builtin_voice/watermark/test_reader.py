"""The message decoder learns alone: from what the service embeds, and nothing else changes."""

from __future__ import annotations

import wave
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from csm_codec.resample import Pcm
from csm_codec.watermark.networks.hparams import read_hparams
from csm_codec.watermark.networks.silentcipher import SilentCipher, build_silentcipher, load_silentcipher
from recipes.builtin_voice.watermark import marked, reader
from recipes.builtin_voice.watermark.channel import Mixture, distort
from recipes.builtin_voice.watermark.corpus import Corpus
from recipes.builtin_voice.watermark.marked import cut_crops, mark_clips
from recipes.builtin_voice.watermark.reader import ReaderTrainer
from tests.support.tiny.silentcipher import tiny_hparams

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def speech() -> Pcm:
    with wave.open(str(ROOT / "tests" / "assets" / "speech_24khz.wav")) as file:
        return (np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768).astype(np.float32)


@pytest.fixture(scope="module")
def builtin() -> SilentCipher:
    return load_silentcipher(ROOT / "bundles" / "builtin" / "silentcipher")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of random networks, and batches that cost little."""
    for name, value in {"GROUPS": 2, "ROWS": 1, "FRAMES": 24, "CLIPS": 2, "CLIP_STEPS": 2}.items():
        monkeypatch.setattr(reader, name, value)
    folder = tmp_path / "start"
    folder.mkdir()
    # With three layers less, as many bins as other tests' networks have: kernels are compiled for them.
    sizes = {"enc_n_layers": 2, "dec_c_n_layers": 2, "dec_m_channel_dim": 4, "dec_m_num_layers": 3}
    (folder / "hparams.yaml").write_text(yaml.safe_dump(tiny_hparams(n_fft=256, band=19) | sizes))
    torch.manual_seed(0)
    networks = build_silentcipher(read_hparams(folder / "hparams.yaml"))
    torch.save(networks.carrier_encoder.state_dict(), folder / "enc_c.ckpt")
    torch.save(networks.carrier_decoder.state_dict(), folder / "dec_c.ckpt")
    torch.save(networks.message_decoder.state_dict(), folder / "dec_m_0.ckpt")
    return folder


def trainer(folder: Path, start: Path, chances: Mapping[str, float]) -> ReaderTrainer:
    random = np.random.default_rng(3)
    clips = [(0.1 * random.standard_normal(8000)).astype(np.float32) for _ in range(3)]
    corpus = Corpus(dict.fromkeys(chances, clips))
    return ReaderTrainer(folder, start, corpus, steps=4, seed=0, chances=chances)


def decoder_of(folder: Path) -> dict[str, torch.Tensor]:
    """As trained, before it is rounded."""
    state: dict[str, torch.Tensor] = torch.load(folder / "state.pt", weights_only=True)["decoder"]
    return state


def test_the_symbols_of_a_crop_are_what_the_decoder_reads_in_it(
    builtin: SilentCipher, speech: Pcm, monkeypatch: pytest.MonkeyPatch
) -> None:
    hop = builtin.hparams.hop
    random = np.random.default_rng(0)
    clips = mark_clips(builtin, Corpus({"speech": [speech]}), {"speech": 1.0}, random, count=4, least=len(speech) - hop)
    right = {}
    for offset in (0, hop // 4, -hop // 4):
        monkeypatch.setattr(marked, "frame_offset", lambda random, hop, offset=offset: offset)
        crops = cut_crops(clips, random, rows=8, frames=60, hop=hop)
        frames = crops.pcm.unfold(1, 2 * hop, hop) * torch.hann_window(2 * hop)
        carrier = torch.fft.rfft(frames)[:, :, : builtin.hparams.band].abs().transpose(1, 2)[:, None]
        gain = (10 ** (-25.5 / 10) / crops.power).sqrt()[:, None, None]
        with torch.inference_mode():
            read = builtin.message_decoder(carrier * gain)[:, 0].argmax(dim=1)
        right[offset] = float((read == crops.symbols).float().mean())
    assert right[0] > 0.95 and min(right.values()) > 0.6, right


def test_a_resumed_training_makes_the_weights_of_an_uninterrupted_one(small: Path, tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole", small, {"noise": 1.0})
    while not whole.done:
        whole.train_step()
    whole.save()
    for stop in (1, 4):
        part = trainer(tmp_path / "parts", small, {"noise": 1.0})
        while part.step < stop:
            part.train_step()
        part.save()
    expected, resumed = (decoder_of(tmp_path / name) for name in ("whole", "parts"))
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_only_the_decoder_s_weights_change_and_no_statistics(small: Path, tmp_path: Path) -> None:
    trained = trainer(tmp_path / "out", small, {"noise": 1.0})
    for _ in range(2):
        trained.train_step()
    trained.save()
    written = tmp_path / "out" / "silentcipher"
    for name in ("hparams.yaml", "enc_c.ckpt", "dec_c.ckpt"):
        assert (written / name).read_bytes() == (small / name).read_bytes(), name
    before, after = load_silentcipher(small).message_decoder.state_dict(), decoder_of(tmp_path / "out")
    for name in before:
        is_statistic = "running" in name or "num_batches" in name
        assert torch.equal(before[name], after[name]) == is_statistic, name
    served = load_silentcipher(written).message_decoder.state_dict()
    for name in after:
        assert torch.equal(served[name], after[name].half().float() if after[name].dim() > 1 else after[name]), name


@pytest.mark.parametrize("of", ["the row", "its recording"])
def test_white_noise_lies_18_to_32_db_below(of: str) -> None:
    pcm = torch.sin(torch.arange(48_000) / 20)[None].repeat(40, 1) * 0.2
    power = torch.full((40, 1), 0.5) if of == "its recording" else None
    heard = distort(pcm, np.random.default_rng(1), severity=1.0, mixture=Mixture(1.0, {"white": 1.0}), power=power)
    noise = (heard - pcm).square().mean(dim=1)
    below_db = 10 * torch.log10((power if power is not None else pcm.square().mean(dim=1, keepdim=True))[:, 0] / noise)
    assert 17.9 < below_db.min() < 20 and 30 < below_db.max() < 32.1
    spectrum = torch.fft.rfft(heard - pcm).abs().square().mean(dim=0)
    low, high = spectrum[1:6000].mean(), spectrum[-6000:].mean()
    assert 0.95 < low / high < 1.05
