"""Audio to codes, a whole recording at a time: context that the model listens to. It keeps no state between calls."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from csm_bundle.errors import CodecError, InvalidRequestError
from csm_codec.mimi.loader import Mimi
from csm_codec.resample import Pcm, resample

Codes = npt.NDArray[np.int16]  # (frames, codebooks), as requests of the engine hold them

MIN_SAMPLE_RATE_HZ, MAX_SAMPLE_RATE_HZ = 8000, 192_000
LOUDEST = 100.0  # full scale is 1; what lies so far above it is on another scale, such as that of 16 bits


def encode(mimi: Mimi, pcm: Pcm, sample_rate_hz: int) -> Codes:
    """Codes (frames, codebooks) of a mono recording; silence fills the last frame.

    Safe beside a running decoder of the same weights, from another thread.
    Raises InvalidRequestError naming `pcm` or `sample_rate_hz`, and CodecError.
    """
    check_recording(pcm, sample_rate_hz)
    if (peak := float(np.abs(pcm).max())) > LOUDEST:
        raise InvalidRequestError("pcm", f"reach {peak:g}; full scale is 1, and at most {LOUDEST:g} is allowed")
    frame_size = mimi.identity.frame_sample_count
    native = resample(pcm, sample_rate_hz, mimi.identity.sample_rate_hertz)
    num_frames = max(1, -(-len(native) // frame_size))  # a few samples of a high rate may be none of the codec's
    padded = np.pad(native, (0, num_frames * frame_size - len(native)))
    with torch.inference_mode():
        device = next(mimi.model.parameters()).device
        latents = mimi.model.encode_to_latent(torch.from_numpy(padded).to(device)[None, None], quantize=False)
        if not latents.isfinite().all():  # would become codes as all others do
            raise CodecError("The recording could not be encoded: the codec computed what is no number.")
        codes = mimi.model.quantizer.encode(latents)  # (1, codebooks, frames)
    return codes[0].T.cpu().numpy().astype(np.int16)


def check_recording(pcm: Pcm, sample_rate_hz: int) -> None:
    """Raises InvalidRequestError unless this is sound that can be worked on."""
    if not MIN_SAMPLE_RATE_HZ <= sample_rate_hz <= MAX_SAMPLE_RATE_HZ:
        allowed = f"{MIN_SAMPLE_RATE_HZ}..{MAX_SAMPLE_RATE_HZ}"
        raise InvalidRequestError("sample_rate_hz", f"is {sample_rate_hz}; allowed is {allowed}")
    if pcm.ndim != 1 or len(pcm) == 0:
        raise InvalidRequestError("pcm", f"has shape {pcm.shape}; at least one mono sample is needed")
    if not np.isfinite(pcm).all():
        raise InvalidRequestError("pcm", "holds numbers that are not finite")
