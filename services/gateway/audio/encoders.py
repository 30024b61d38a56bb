"""An encoder for every encoding that `formats` lists: resampled first, then packed."""

from __future__ import annotations

from collections.abc import Callable

from csm.v1 import tts_pb2

from services.gateway.audio.encoded import AudioEncoder, EncodedAudio
from services.gateway.audio.g711 import ALAW, G711, MULAW
from services.gateway.audio.ogg_opus import OggOpusEncoder
from services.gateway.audio.resampler import Resampler, open_resampler


class SampleEncoder:
    """Encodings that pack every sample by itself."""

    def __init__(self, resampler: Resampler, pack: Callable[[bytes], bytes]) -> None:
        """pack: from 16-bit samples to what is sent"""
        self._resampler = resampler
        self._pack = pack

    def push(self, samples: bytes) -> EncodedAudio:
        return self._packed(self._resampler.push(samples))

    def finish(self) -> EncodedAudio:
        return self._packed(self._resampler.flush())

    def _packed(self, samples: bytes) -> EncodedAudio:
        return EncodedAudio(self._pack(samples), len(samples) // 2)


def open_encoder(encoding: tts_pb2.AudioEncoding, from_hz: int, to_hz: int, serial: int) -> AudioEncoder:
    """An encoder for one utterance. WAV is made without its header, which depends on where the audio goes.

    from_hz: rate of the samples; to_hz: rate of the audio, one that `formats` allows; serial: see OggOpusEncoder
    """
    resampler = open_resampler(from_hz, to_hz)
    match encoding:
        case tts_pb2.AUDIO_ENCODING_PCM | tts_pb2.AUDIO_ENCODING_WAV:
            return SampleEncoder(resampler, _unchanged)
        case tts_pb2.AUDIO_ENCODING_MULAW:
            return SampleEncoder(resampler, G711(MULAW, to_hz).pack)
        case tts_pb2.AUDIO_ENCODING_ALAW:
            return SampleEncoder(resampler, G711(ALAW, to_hz).pack)
        case tts_pb2.AUDIO_ENCODING_OGG_OPUS:
            return OggOpusEncoder(resampler, to_hz, serial)
        case _:
            raise ValueError(f"There is no encoder for {encoding}.")


def _unchanged(samples: bytes) -> bytes:
    return samples
