"""Tiny SilentCiphers, and the package's own embedder and detector as the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csm_codec.watermark.networks.silentcipher import SilentCipher, load_silentcipher
from tests.support.silentcipher_oracle import PackageOracle
from tests.support.tiny.silentcipher import write_tiny_silentcipher

SIZES: dict[str, Any] = {"n_fft": 256, "published_reader": True}  # the package can load no other


@pytest.fixture(scope="session")
def silentcipher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("silentcipher")
    write_tiny_silentcipher(folder, 0, **SIZES)
    return folder


@pytest.fixture(scope="session")
def silentcipher(silentcipher_folder: Path) -> SilentCipher:
    return load_silentcipher(silentcipher_folder)


@pytest.fixture(scope="session")
def oracle(silentcipher_folder: Path) -> PackageOracle:
    return PackageOracle.load(silentcipher_folder)


@pytest.fixture(scope="session")
def speechlike() -> np.ndarray:
    """0.3 s at 24 kHz whose loudness moves, with a silent gap."""
    random = np.random.default_rng(5)
    times = np.arange(6_465) / 24000
    pcm = 0.15 * random.standard_normal(len(times)) * (0.2 + np.abs(np.sin(5 * times)))
    pcm[3000:3600] = 0
    return pcm.astype(np.float32)
