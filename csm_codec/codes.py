"""Checks codes before they reach a batch: on a GPU, one wrong code would fail every stream.

Plain numpy; it knows no codec but the numbers of its identity.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from csm_bundle.codec_identity import CodecIdentity
from csm_bundle.errors import InvalidRequestError

CheckedCodes = npt.NDArray[np.int64]  # (frames, codebooks)


def checked_codes(codes: npt.NDArray[np.generic], codec: CodecIdentity) -> CheckedCodes:
    """The codes as int64. Raises InvalidRequestError for field `codes` unless the codec can decode all of them."""
    if not np.issubdtype(codes.dtype, np.integer):
        raise InvalidRequestError("codes", f"are of type {codes.dtype}; whole numbers are needed")
    if codes.ndim != 2 or codes.shape[1] != codec.codebook_count:
        raise InvalidRequestError("codes", f"have shape {codes.shape}; (frames, {codec.codebook_count}) is needed")
    if codes.size:
        least, most = int(codes.min()), int(codes.max())
        if least < 0 or most >= codec.codebook_size:
            wrong = least if least < 0 else most
            raise InvalidRequestError("codes", f"hold {wrong}; allowed are 0..{codec.codebook_size - 1}")
    return codes.astype(np.int64)
