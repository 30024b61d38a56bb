"""Trains Mimi's decoder to make the vocoder's sound of the same codes.

    python -m recipes.builtin_voice.codec.train_decoder build/voice --minutes 195

The vocoder's sound depends on the codes alone, so this is regression: no adversary, no noise to invent. The loss is the
error of samples, with high frequencies raised, and the error of log spectra at several resolutions. Stops after the
minutes or at Ctrl-C; running it again goes on from the last checkpoint.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from moshi.models.compression import MimiModel
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.builtin_voice.codec.network import new_mimi
from recipes.builtin_voice.codec.quantizer import Quantizer
from recipes.builtin_voice.codec.targets import Targets, open_targets
from recipes.builtin_voice.training import Schedule, Training, arguments
from recipes.builtin_voice.vocoder import FRAME_SIZE

GAIN = 10.0  # the network works at this times the sound's level
CLIP_FRAMES = 16  # 1.28 s
WARM_UP_FRAMES = 2  # of a clip that only fill its state and are not held_out
BATCH = 16
STFT_SIZES = (256, 512, 1024, 2048)
EMPHASIS = 0.9


def main() -> None:
    asked = arguments(__doc__, minutes=195, rate=2e-3)
    quantizer = Quantizer.load(asked.folder / "quantizer.pt")
    targets = open_targets(asked.folder, quantizer, "train")
    held_out = open_targets(asked.folder, quantizer, "heldout")
    model = new_mimi(quantizer, seed=asked.seed)
    schedule = Schedule(asked.minutes, asked.rate, warm_up_steps=100, log_every=50, judge_every=500)
    training = Training(decoder_parts(model), asked.folder / "decoder.pt", schedule, weight_decay=0.01)
    random = np.random.default_rng(asked.seed + training.steps)
    training.run(
        lambda: batch_losses(model, targets, random),
        lambda found: found["samples"] + found["spectra"],
        lambda: {"snr_db": snr_db(model, held_out)},
    )


def batch_losses(model: MimiModel, targets: Targets, random: np.random.Generator) -> dict[str, Tensor]:
    """Mean square error of the samples and mean difference of log spectra, on a new batch."""
    codes, pcm = targets.batch(random, BATCH, CLIP_FRAMES)
    sizes = random.choice(STFT_SIZES, 2, replace=False).tolist()
    with torch.autocast("cpu", torch.bfloat16):
        said = decode(model, codes)[:, WARM_UP_FRAMES * FRAME_SIZE :]
    return losses(said.float(), pcm[:, WARM_UP_FRAMES * FRAME_SIZE :] * GAIN, sizes)


@torch.no_grad()
def snr_db(model: MimiModel, held_out: Targets) -> float:
    codes, pcm = held_out.batch(np.random.default_rng(0), 32, CLIP_FRAMES)
    error = decode(model, codes) / GAIN - pcm
    return float(10 * torch.log10(pcm.square().sum() / error.square().sum()))


def decoder_parts(model: MimiModel) -> nn.ModuleDict:
    """All modules between codebooks and samples."""
    quantizers: Any = model.quantizer
    assert model.decoder_transformer is not None
    return nn.ModuleDict(
        {
            "first_output": quantizers.rvq_first.output_proj,
            "rest_output": quantizers.rvq_rest.output_proj,
            "upsample": model.upsample,
            "decoder_transformer": model.decoder_transformer,
            "decoder": model.decoder,
        }
    )


def decode(model: MimiModel, codes: Tensor) -> Tensor:
    """(B, T, K) codes to (B, T * FRAME_SIZE) samples at GAIN times their level."""
    latent = model.upsample(model.quantizer.decode(codes.transpose(1, 2)))
    assert model.decoder_transformer is not None
    (latent,) = model.decoder_transformer(latent)
    return model.decoder(latent)[:, 0]


def losses(said: Tensor, wanted: Tensor, sizes: list[int]) -> dict[str, Tensor]:
    said, wanted = _emphasized(said), _emphasized(wanted)
    samples = F.mse_loss(said, wanted) / 0.1
    spectra = sum((_log_spectrum(said, size) - _log_spectrum(wanted, size)).abs().mean() for size in sizes)
    return {"samples": samples, "spectra": torch.as_tensor(spectra) / len(sizes)}


def _emphasized(pcm: Tensor) -> Tensor:
    return pcm[:, 1:] - EMPHASIS * pcm[:, :-1]


def _log_spectrum(pcm: Tensor, size: int) -> Tensor:
    spectrum = torch.stft(pcm, size, size // 4, window=torch.hann_window(size), return_complex=True)
    return torch.log(spectrum.abs() / size**0.5 + 1e-2)


if __name__ == "__main__":
    main()
