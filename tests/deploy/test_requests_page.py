"""The tables of docs/requests.md are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from csm.v1 import tts_pb2
from csm_client.tables.encodings import ENCODINGS as FILES
from csm_client.tables.sampling import SAMPLING

from csm_bundle.sampling import LIMITS, SamplingParams
from services.gateway.audio.encodings import ENCODINGS, SAMPLE_RATES_HZ
from services.gateway.requests.recordings import MAX_SAMPLE_RATE_HZ, MIN_SAMPLE_RATE_HZ


@pytest.fixture(scope="session")
def page(repository: Path) -> str:
    return (repository / "docs" / "requests.md").read_text(encoding="utf-8")


def test_the_page_s_sampling_ranges_are_those_that_are_checked(page: str) -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| (.+?) \| (.+?) \| (.+?) \|$", page, re.MULTILINE)
    assert rows == [
        (name, str(limits), "drawn" if name == "seed" else f"{getattr(SamplingParams(), name)}", SAMPLING[name].meaning)
        for name, limits in LIMITS.items()
    ]


def test_the_page_s_encodings_are_those_of_the_encoders(page: str) -> None:
    names = {row.number: name for name, row in FILES.items()}
    rows = re.findall(r"^\| `(AUDIO_ENCODING_\w+)` \| `(.+?)` \| `(.+?)` \| (.+?) \| (.+?) \|$", page, re.MULTILINE)
    assert rows == [
        (
            tts_pb2.AudioEncoding.Name(number),
            names[number],
            row.content_type,
            ", ".join(f"`{suffix}`" for suffix in row.suffixes),
            ", ".join(map(str, row.sample_rates_hz)) if row.sample_rates_hz else "any below, and the model's own",
        )
        for number, row in ENCODINGS.items()
    ]
    assert f"The sample rates: {', '.join(map(str, SAMPLE_RATES_HZ))}." in page
    assert f"from {MIN_SAMPLE_RATE_HZ} to {MAX_SAMPLE_RATE_HZ} Hz" in page
