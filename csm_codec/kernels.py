"""`python -m csm_codec.kernels`: compiles the kernels of the codec's default types into numba's cache.

For the published watermark networks, whose shapes are compiled in, and for those of bundles named as arguments. This is
done when an image is built, so that no start compiles. It needs no weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

from csm_bundle.runtime import block_product  # noqa: F401  (compiled when it is imported)
from csm_codec.config import CodecConfig
from csm_codec.mimi.cpu.frame_kernels import frame_kernels
from csm_codec.watermark.cpu.frame_network import FrameNetwork
from csm_codec.watermark.networks.hparams import Hparams, read_hparams
from csm_codec.watermark.networks.silentcipher import build_silentcipher

# Sizes of sony/silentcipher at 44.1 kHz.
PUBLISHED = Hparams(sample_rate_hz=44100, n_fft=4096, hop=2048, band=1024, enc_layers=3, dec_layers=4, sdr_db=47.0)


def compile_kernels(folders: list[Path]) -> None:
    """folders: bundles that hold their own `silentcipher`. Raises CheckpointError for one that does not."""
    frame_kernels(CodecConfig().dtype)
    for hparams in [PUBLISHED, *(read_hparams(folder / "silentcipher" / "hparams.yaml") for folder in folders)]:
        silentcipher = build_silentcipher(hparams)
        for part in (silentcipher.carrier_encoder, silentcipher.carrier_decoder):
            part.eval().requires_grad_(False)
        FrameNetwork(silentcipher)


if __name__ == "__main__":
    compile_kernels([Path(folder) for folder in sys.argv[1:]])
