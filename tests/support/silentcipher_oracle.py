"""The SilentCipher package's own embedder and detector, as a reference for ours. For tests only.

It works on whole clips at the checkpoint's rate, and prints to the terminal, which is silenced here.
"""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml

from csm_codec.resample import Pcm
from csm_codec.watermark.networks.silentcipher import SilentCipher
from csm_codec.watermark.stream.level import Level


class FixedLevel:
    """The level of a clip that is known as a whole."""

    def __init__(self, level: Level) -> None:
        self._level = level

    def observe(self, mean_square: float) -> Level:
        return self._level


@dataclass(frozen=True)
class PackageOracle:
    """The package's own model in eval mode, without its output on the terminal."""

    model: Any

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", *, as_shipped: bool = False) -> PackageOracle:
        """as_shipped: train mode, which the package never leaves: it normalises by the statistics of each clip."""
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            from silentcipher.server import Model
            from silentcipher.stft import STFT
        hparams = yaml.safe_load((folder / "hparams.yaml").read_text())
        type(STFT)._instances.clear()  # the package keeps one transform per process, for any size

        class Embedder(Model):  # type: ignore[misc]
            """Without the message decoder, of which the package loads one size only: it can embed, but not detect."""

            def load_models(self, folder: str) -> None:
                for part in ("enc_c", "dec_c"):
                    state = torch.load(f"{folder}/{part}.ckpt", map_location=device)
                    getattr(self, part).load_state_dict(self.convert_dataparallel_to_normal(state))
                self.dec_m: list[Any] = []

        kind = Embedder if any(name.startswith("dec_m_") for name in hparams) else Model
        model = kind(Namespace(**hparams, load_ckpt=str(folder)), device)
        for module in (model.enc_c, model.dec_c, *model.dec_m):
            module.train(as_shipped)
        return cls(model)

    def embed(self, pcm: Pcm, payload: bytes) -> Pcm:
        with contextlib.redirect_stdout(io.StringIO()):
            marked, _ = self.model.encode_wav(pcm, self.model.sr, list(payload), calc_sdr=False)
        return np.asarray(marked, dtype=np.float32)

    def level(self, pcm: Pcm) -> FixedLevel:
        """The level that the package uses for this clip."""
        gain = float(np.sqrt(self.model.average_energy_VCTK / np.mean(pcm**2)))
        carrier, _ = self.model.stft.transform(torch.from_numpy(pcm * np.float32(gain))[None].to(self.model.device))
        return FixedLevel(Level(gain, float(carrier.square().mean().sqrt()) / gain))

    def read(self, silentcipher: SilentCipher, pcm: Pcm) -> npt.NDArray[np.int64]:
        """The likeliest symbol of each frame, as the package's message decoder reads a clip at its rate.

        silentcipher: its message decoder is used, as the package may not be able to load the folder's. It runs in the
        mode of the package's other networks.
        """
        decoder = copy.deepcopy(silentcipher.message_decoder).train(self.model.enc_c.training)
        gain = np.float32(np.sqrt(self.model.average_energy_VCTK / np.mean(pcm**2)))
        with torch.no_grad():
            carrier, _ = self.model.stft.transform(torch.from_numpy(pcm * gain)[None])
            logits = decoder(carrier[:, None, : silentcipher.hparams.band])
        return np.asarray(logits[0, 0].argmax(0).numpy())

    def detect(self, pcm: Pcm) -> dict[str, Any]:
        return self.model.decode_wav(pcm, self.model.sr, phase_shift_decoding=False)
