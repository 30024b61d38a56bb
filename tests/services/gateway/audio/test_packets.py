"""MP3, AAC and FLAC streams, decoded by libsndfile (mpg123, libFLAC) or FFmpeg, and by the gateway itself."""

from __future__ import annotations

import io
import math
import struct

import av
import numpy as np
import pytest
import soundfile
from csm.v1 import tts_pb2

from services.gateway.audio.decoders import UnreadableAudioError
from services.gateway.audio.encoded import EncodedAudio
from services.gateway.audio.encodings import ENCODINGS, open_encoder, sample_rates_hz
from services.gateway.audio.packets.formats import AAC_DELAY_SAMPLES, MP3_DELAY_SAMPLES
from services.gateway.audio.packets.pieces import MOST_UNPARSED_BYTES
from services.gateway.audio.pieces import joined
from services.gateway.audio.recording import Recording
from tests.services.gateway.audio.speech_like import FRAME, NATURAL_HZ, encode, frames, speech_like, thread_count

MP3, AAC, FLAC = tts_pb2.AUDIO_ENCODING_MP3, tts_pb2.AUDIO_ENCODING_AAC, tts_pb2.AUDIO_ENCODING_FLAC
DELAYS = {MP3: MP3_DELAY_SAMPLES, AAC: AAC_DELAY_SAMPLES, FLAC: 0}
COMBINATIONS = [(encoding, rate) for encoding in DELAYS for rate in sample_rates_hz(encoding, NATURAL_HZ)]


def made(encoding: tts_pb2.AudioEncoding, rate_hz: int, samples: np.ndarray) -> bytes:
    pieces = encode(open_encoder(encoding, NATURAL_HZ, rate_hz, 1), frames(samples))
    return ENCODINGS[encoding].header(rate_hz, None) + b"".join(piece.content for piece in pieces)


def read(encoding: tts_pb2.AudioEncoding, content: bytes, max_seconds: float = 3600) -> Recording:
    return joined(ENCODINGS[encoding].open_pieces(io.BytesIO(content), 1, 0), max_seconds)


def with_length(flac: bytes, sample_count: int) -> bytes:
    """A FLAC stream of unknown length, as a file that libsndfile can read."""
    (layout,) = struct.unpack_from(">Q", flac, 18)
    assert flac[:8] == b"fLaC\x80\0\0\x22" and not layout & (2**36 - 1)
    return flac[:18] + struct.pack(">Q", layout | sample_count) + flac[26:]


def decoded_independently(encoding: tts_pb2.AudioEncoding, content: bytes, count: int) -> tuple[np.ndarray, int]:
    """Samples and rate. count: samples of a FLAC stream.

    libsndfile reads no AAC. FFmpeg's fixed-point decoder does, which ours does not use.
    """
    if encoding != AAC:
        heard, rate_hz = soundfile.read(io.BytesIO(with_length(content, count) if encoding == FLAC else content))
        return heard, rate_hz
    with av.open(io.BytesIO(content), "r", format="aac") as container:
        decoder = av.CodecContext.create("aac_fixed", "r")
        assert isinstance(decoder, av.AudioCodecContext)
        decoded = [frame for packet in container.demux() if packet.size for frame in decoder.decode(packet)]
    return np.concatenate([frame.to_ndarray()[0] for frame in decoded]) / 2**31, decoded[0].sample_rate


@pytest.mark.parametrize(("encoding", "rate_hz"), COMBINATIONS)
def test_an_independent_decoder_gives_the_same_audio_after_the_stated_delay(
    encoding: tts_pb2.AudioEncoding, rate_hz: int
) -> None:
    from scipy.signal import correlate  # takes a second

    count = 2 * NATURAL_HZ + 77
    expected_count, delay = math.ceil(count * rate_hz / NATURAL_HZ), DELAYS[encoding]
    content = made(encoding, rate_hz, speech_like(count, NATURAL_HZ))
    heard, heard_hz = decoded_independently(encoding, content, expected_count)
    padding = len(heard) - delay - expected_count
    assert heard_hz == rate_hz and 0 <= padding <= {MP3: 1728, AAC: 1023, FLAC: 0}[encoding]
    said = speech_like(expected_count, rate_hz) / 32_768
    lag = int(np.argmax(correlate(heard, said))) - (len(said) - 1)
    assert abs(lag - delay) <= rate_hz / 1000
    # MP3 at 8 kHz is cut off at 3.5 kHz, and resampling shifts by parts of a sample.
    assert np.corrcoef(heard[lag : lag + len(said)], said[: len(heard) - lag])[0, 1] > 0.95


@pytest.mark.parametrize("encoding", DELAYS)
def test_a_partial_stream_is_playable_to_its_end(encoding: tts_pb2.AudioEncoding) -> None:
    encoder = open_encoder(encoding, NATURAL_HZ, NATURAL_HZ, serial=1)
    content, count = ENCODINGS[encoding].header(NATURAL_HZ, None), 0
    for frame in frames(speech_like(10 * FRAME, NATURAL_HZ)):
        audio = encoder.push(frame)
        content, count = content + audio.content, count + audio.sample_count
        if count:
            assert len(decoded_independently(encoding, content, count)[0]) == count + DELAYS[encoding]
    assert 10 * FRAME - count <= {MP3: 1105 + 2 * 576, AAC: 3 * 1024 - 1, FLAC: 0}[encoding]


@pytest.mark.parametrize("encoding", [MP3, AAC])
def test_later_chunks_can_be_decoded_without_the_earlier_ones(encoding: tts_pb2.AudioEncoding) -> None:
    from scipy.signal import correlate  # takes a second

    pieces = encode(open_encoder(encoding, NATURAL_HZ, NATURAL_HZ, 1), frames(speech_like(48_000, NATURAL_HZ)))
    content = b"".join(piece.content for piece in pieces[10:])
    heard, _ = decoded_independently(encoding, content, 0)
    said = speech_like(48_000, NATURAL_HZ)[-len(heard) // 2 :] / 32_768  # its last part: no sample is missing
    lag = int(np.argmax(correlate(heard, said))) - (len(said) - 1)
    assert np.corrcoef(heard[lag : lag + len(said)], said)[0, 1] > 0.95


def test_flac_is_lossless_and_a_whole_file_has_its_length() -> None:
    samples = speech_like(24_123, NATURAL_HZ).round().astype("<i2")
    content = made(FLAC, NATURAL_HZ, samples)
    heard, _ = soundfile.read(io.BytesIO(with_length(content, len(samples))), dtype="int16")
    assert (heard == samples).all()
    header = ENCODINGS[FLAC].header(NATURAL_HZ, len(samples))
    assert len(content) > 42 == len(header)
    for start, told in ((content[:42], 0), (header, len(samples))):
        assert struct.unpack_from(">Q", start, 18)[0] & (2**36 - 1) == told
    assert len(soundfile.read(io.BytesIO(header + content[42:]))[0]) == len(samples)
    assert len(content) < 0.8 * 2 * len(samples)


@pytest.mark.parametrize(("encoding", "rate_hz"), COMBINATIONS)
def test_noise_keeps_within_the_stated_size(encoding: tts_pb2.AudioEncoding, rate_hz: int) -> None:
    noise = np.random.default_rng(3).normal(0, 12_000, NATURAL_HZ)
    assert len(made(encoding, rate_hz, noise)) <= ENCODINGS[encoding].bytes_per_second(rate_hz)


@pytest.mark.parametrize("encoding", DELAYS)
def test_no_samples_are_no_bytes(encoding: tts_pb2.AudioEncoding) -> None:
    assert encode(open_encoder(encoding, NATURAL_HZ, NATURAL_HZ, serial=1), []) == [EncodedAudio(b"", 0)]


@pytest.mark.parametrize("encoding", DELAYS)
def test_one_sample_is_one_sample(encoding: tts_pb2.AudioEncoding) -> None:
    (first, last) = encode(open_encoder(encoding, NATURAL_HZ, NATURAL_HZ, serial=1), [b"\1\0"])
    assert first.sample_count + last.sample_count == 1 and last.content


def test_encoders_and_decoders_start_no_threads() -> None:
    contents = {encoding: made(encoding, NATURAL_HZ, speech_like(FRAME, NATURAL_HZ)) for encoding in DELAYS}
    before = thread_count()
    encoders = [open_encoder(encoding, NATURAL_HZ, NATURAL_HZ, 1) for encoding in DELAYS for _ in range(4)]
    for encoder in encoders:
        encoder.push(bytes(2 * FRAME))
    pieces = [ENCODINGS[encoding].open_pieces(io.BytesIO(content), 1, 0) for encoding, content in contents.items()]
    assert all(next(piece) for piece in pieces)
    assert thread_count() == before


@pytest.mark.parametrize(
    ("container", "subtype", "encoding"), [("MP3", "MPEG_LAYER_III", MP3), ("FLAC", "PCM_24", FLAC)]
)
@pytest.mark.parametrize("channel_count", [1, 2])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_files_of_another_writer_are_read(
    container: str, subtype: str, encoding: tts_pb2.AudioEncoding, channel_count: int, rate_hz: int
) -> None:
    said = 0.5 * np.sin(2 * math.pi * 440 * np.arange(rate_hz) / rate_hz)
    file = io.BytesIO()
    soundfile.write(file, np.stack([said] * channel_count, axis=1), rate_hz, format=container, subtype=subtype)
    for content in (file.getvalue(), tag(50_000) + tag(3) + file.getvalue()):
        recording = read(encoding, content)
        assert recording.sample_rate_hz == rate_hz
        assert recording.duration_s == pytest.approx(1, abs=0.2 if encoding == MP3 else 0)  # its info frame, its delay
        heard = np.frombuffer(recording.samples, "<i2")[rate_hz // 4 : -rate_hz // 4] / 32_768
        assert heard.std() == pytest.approx(said.std(), rel=0.05)


def tag(size: int) -> bytes:
    """An ID3v2 tag that holds frames of MP3 in its picture."""
    places = bytes((size >> 7 * place) & 0x7F for place in (3, 2, 1, 0))
    return b"ID3\4\0\0" + places + (b"\xff\xfb\x90\xc4" * size)[:size]


@pytest.mark.parametrize("encoding", DELAYS)
def test_other_files_are_refused(encoding: tts_pb2.AudioEncoding) -> None:
    wrong = [b"", b"RIFF", bytes(100), b"OggS" + bytes(100), tag(5), 20 * tag(5), b"fLaC", b"\xff" * 100]
    wrong += [made(other, NATURAL_HZ, speech_like(FRAME, NATURAL_HZ)) for other in DELAYS if other != encoding]
    for content in wrong:
        with pytest.raises(UnreadableAudioError, match=r"(is not|holds more than 16 tags).*\.$"):
            read(encoding, content)


@pytest.mark.parametrize("encoding", DELAYS)
def test_truncated_recordings_give_their_audio_or_an_error_message(encoding: tts_pb2.AudioEncoding) -> None:
    content = made(encoding, NATURAL_HZ, np.random.default_rng(1).normal(0, 6000, 5 * NATURAL_HZ))
    size = len(content)
    for first, length in ((size // 2, size), (size // 2, 500), (60, 40), (size // 3, size // 3)):
        torn = content[:first] + bytes(length) + content[first + length :]
        for version in (torn, content[:first]):
            try:
                assert read(encoding, version).duration_s <= 5.2
            except UnreadableAudioError as error:
                assert str(error).endswith(".")


def test_a_recording_that_expands_is_refused_at_the_first_piece_beyond_the_limit() -> None:
    silence = made(FLAC, NATURAL_HZ, np.zeros(60 * NATURAL_HZ))
    assert len(silence) < 60_000
    file = io.BytesIO(silence)
    with pytest.raises(UnreadableAudioError, match="lasts more than 5 s"):
        joined(ENCODINGS[FLAC].open_pieces(file, 1, 0), 5)
    assert len(read(FLAC, silence).samples) == 2 * 60 * NATURAL_HZ


@pytest.mark.parametrize("encoding", DELAYS)
def test_bytes_without_frames_are_not_kept(encoding: tts_pb2.AudioEncoding) -> None:
    class Endless(io.BytesIO):
        given = 0

        def read(self, size: int | None = -1) -> bytes:
            start = super().read(size)
            self.given += size or 0
            return start or bytes(size or 0)

    whole = made(encoding, NATURAL_HZ, speech_like(FRAME, NATURAL_HZ))
    file = Endless(whole[:60] if encoding == FLAC else whole[:10])
    with pytest.raises(UnreadableAudioError, match="that can be read"):
        joined(ENCODINGS[encoding].open_pieces(file, 1, 0), 3600)
    assert file.given < MOST_UNPARSED_BYTES + 200_000


def test_an_error_without_words_is_not_reported_as_a_number() -> None:
    frames_of_no_rate = io.BytesIO(b"\xff\xf1" * 1000)
    with pytest.raises(UnreadableAudioError, match="is not AAC that can be read: its frames are damaged[.]"):
        joined(ENCODINGS[tts_pb2.AUDIO_ENCODING_AAC].open_pieces(frames_of_no_rate, 1, 0), 5)
