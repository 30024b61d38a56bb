"""Protos of the codec's API to arrays and back. Protos stop here."""

from __future__ import annotations

import numpy as np
from csm.codec.v1 import codec_pb2
from csm.rvq.v1 import rvq_pb2

from csm_bundle.codec_identity import CodecIdentity
from csm_bundle.errors import InvalidRequestError
from csm_codec.codes import CheckedCodes, checked_codes
from csm_codec.mimi import encoder
from csm_codec.mimi.encoder import Codes
from csm_codec.resample import Pcm
from csm_codec.watermark.stream.coverage import Coverage
from services.common.frames import MalformedFramesError, check_follows, check_shape
from services.common.rpc.status import StatusError, wrong_field

_DTYPES: dict[int, np.dtype[np.int16] | np.dtype[np.float32]] = {
    codec_pb2.SAMPLE_FORMAT_S16LE: np.dtype("<i2"),
    codec_pb2.SAMPLE_FORMAT_F32LE: np.dtype("<f4"),
}
_COVERAGES = {
    Coverage.FULL: codec_pb2.WATERMARK_COVERAGE_FULL,
    Coverage.PARTIAL: codec_pb2.WATERMARK_COVERAGE_PARTIAL,
}
_API_NAMES = {"pcm": "samples", "sample_rate_hz": "sample_rate_hertz"}  # of the library's fields
_S16_SCALE = 32768


def check_format(sample_format: codec_pb2.SampleFormat) -> None:
    """Raises InvalidRequestError."""
    if sample_format not in _DTYPES:
        names = ", ".join(codec_pb2.SampleFormat.Name(known) for known in _DTYPES)
        raise InvalidRequestError("sample_format", f"is {sample_format}; it must be one of {names}")


def sample_size(sample_format: codec_pb2.SampleFormat) -> int:
    """Bytes of one sample of a format that `check_format` has passed."""
    return _DTYPES[sample_format].itemsize


def check_recording(pcm: Pcm, sample_rate_hz: int) -> None:
    """Raises InvalidRequestError, its field as csm/codec/v1/codec.proto names it."""
    try:
        encoder.check_recording(pcm, sample_rate_hz)
    except InvalidRequestError as error:
        raise in_api_terms(error) from None


def in_api_terms(error: InvalidRequestError) -> InvalidRequestError:
    """The same error of the encoder, its field as csm/codec/v1/codec.proto names it."""
    return InvalidRequestError(_API_NAMES[error.field], error.message)


def too_long(description: str) -> StatusError:
    """The error of a recording that lasts longer than is allowed."""
    return wrong_field("samples", description, "AUDIO_TOO_LONG")


def to_pcm(samples: bytes, sample_format: codec_pb2.SampleFormat) -> Pcm:
    """Float samples, -1 to 1 for 16-bit ones. Raises InvalidRequestError."""
    check_format(sample_format)
    dtype = _DTYPES[sample_format]
    if len(samples) % dtype.itemsize:
        raise InvalidRequestError(
            "samples", f"hold {len(samples)} bytes; they must be whole samples of {dtype.itemsize} bytes"
        )
    pcm = np.frombuffer(samples, dtype).astype(np.float32)
    if sample_format == codec_pb2.SAMPLE_FORMAT_S16LE:
        pcm /= np.float32(_S16_SCALE)
    return pcm


def from_pcm(pcm: Pcm, sample_format: codec_pb2.SampleFormat) -> bytes:
    """Samples as bytes. 16-bit samples are clipped, not wrapped."""
    if sample_format == codec_pb2.SAMPLE_FORMAT_S16LE:
        pcm = np.rint(pcm * _S16_SCALE).clip(-_S16_SCALE, _S16_SCALE - 1)
    return pcm.astype(_DTYPES[sample_format]).tobytes()


def to_codes(frames: rvq_pb2.CodeFrames, next_frame_index: int, codec: CodecIdentity) -> CheckedCodes:
    """(frames, codebooks). Raises InvalidRequestError unless these are the stream's next frames, and decodable."""
    try:
        check_shape(frames, codec.codebook_count)
        check_follows(frames, next_frame_index)
    except MalformedFramesError as error:
        raise InvalidRequestError("frames", str(error)) from None
    codes = np.frombuffer(frames.codes, "<u2").reshape(frames.frame_count, frames.codebook_count)
    try:
        return checked_codes(codes, codec)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"frames.{error.field}", error.message) from None


def from_codes(codes: Codes) -> rvq_pb2.CodeFrames:
    """codes: (frames, codebooks)"""
    return rvq_pb2.CodeFrames(
        frame_count=codes.shape[0], codebook_count=codes.shape[1], codes=codes.astype("<u2").tobytes()
    )


def from_coverage(coverage: Coverage) -> codec_pb2.WatermarkCoverage:
    return _COVERAGES[coverage]
