"""Tiny codec parts, written once per run."""

from __future__ import annotations

from pathlib import Path

import pytest

from csm_codec.codec import Codec
from csm_codec.mimi.loader import Mimi, load_mimi
from tests.csm_codec.codec_steps import small_codec
from tests.support.tiny.mimi import write_tiny_mimi
from tests.support.tiny.silentcipher import write_tiny_silentcipher


@pytest.fixture(scope="session")
def mimi_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four codebooks, attention over 20 steps: ten frames fill the ring."""
    folder = tmp_path_factory.mktemp("mimi")
    write_tiny_mimi(folder, 0, num_codebooks=4, codebook_size=64, context=20, width=32)
    return folder


@pytest.fixture(scope="session")
def mimi(mimi_folder: Path) -> Mimi:
    return load_mimi(mimi_folder)


@pytest.fixture(scope="session")
def silentcipher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("silentcipher")
    write_tiny_silentcipher(folder, 0, n_fft=512)
    return folder


@pytest.fixture
def codec(mimi_folder: Path, silentcipher_folder: Path) -> Codec:
    return small_codec(mimi_folder, silentcipher_folder)
