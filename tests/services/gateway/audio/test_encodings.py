"""The table of encodings is complete, and the client's table agrees with it."""

from __future__ import annotations

import io

import pytest
from csm.v1 import tts_pb2
from csm_client.tables import encodings as client

from services.gateway.audio.encodings import ENCODINGS, open_encoder, sample_rates_hz
from services.gateway.audio.pieces import joined

NATURAL_HZ = 24_000
# Samples of delay and padding that a decoder gives beside the recording.
EXTRA_SAMPLES = {tts_pb2.AUDIO_ENCODING_MP3: 1105 + 1728, tts_pb2.AUDIO_ENCODING_AAC: 1024 + 1023}


def test_every_encoding_of_the_api_has_a_row() -> None:
    assert set(ENCODINGS) == set(tts_pb2.AudioEncoding.values()) - {tts_pb2.AUDIO_ENCODING_UNSPECIFIED}
    suffixes = [suffix for row in ENCODINGS.values() for suffix in row.suffixes]
    assert len(set(suffixes)) == len(suffixes) and all(suffix.startswith(".") for suffix in suffixes)
    assert len({row.content_type for row in ENCODINGS.values()}) == len(ENCODINGS)


def test_client_has_the_same_encodings_and_files() -> None:
    assert {row.number: row.suffixes for row in client.ENCODINGS.values()} == {
        number: row.suffixes for number, row in ENCODINGS.items()
    }


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encoded_audio_decodes_to_its_length(encoding: tts_pb2.AudioEncoding) -> None:
    row = ENCODINGS[encoding]
    for rate_hz in sample_rates_hz(encoding, NATURAL_HZ):
        encoder = open_encoder(encoding, NATURAL_HZ, rate_hz, serial=3)
        parts = [encoder.push(bytes(2 * NATURAL_HZ)), encoder.finish()]
        count = sum(part.sample_count for part in parts)
        content = row.header(rate_hz, count) + b"".join(part.content for part in parts)
        read = joined(row.open_pieces(io.BytesIO(content), 1, rate_hz), 2.0)
        assert count == rate_hz and read.sample_rate_hz in (rate_hz, 48_000)
        assert -0.001 <= read.duration_s - 1.0 <= EXTRA_SAMPLES.get(encoding, 0) / rate_hz + 0.001
        layout = row.read_layout(content, 1, rate_hz)
        assert layout is None or (layout.sample_rate_hz, layout.channel_count) == (rate_hz, 1)
        assert len(content) <= row.bytes_per_second(rate_hz) + 1000  # headers


@pytest.mark.parametrize(("name", "row"), client.ENCODINGS.items())
def test_the_client_detects_formats_by_their_first_bytes(name: str, row: client.EncodingFiles) -> None:
    encoder = open_encoder(row.number, NATURAL_HZ, NATURAL_HZ, serial=1)
    parts = [encoder.push(bytes(4800)), encoder.finish()]
    start = ENCODINGS[row.number].header(NATURAL_HZ, None) + b"".join(part.content for part in parts)
    assert ENCODINGS[row.number].is_headerless == (not row.starts_with), name
    if row.starts_with:
        assert client.encoding_of_file(start) == row.number
