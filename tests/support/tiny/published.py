"""Codec and watermark of the published sizes with random weights, and a bundle with them.

A CSM's weights of the published size take gigabytes, so none are written: the engine draws them with --random-weights.
"""

from __future__ import annotations

import json
from pathlib import Path

from csm_engine.model.shapes import ModelConfig
from tests.support.tiny.bundle import write_tiny_bundle
from tests.support.tiny.csm import TINY_BUNDLE, original_config
from tests.support.tiny.mimi import write_published_mimi
from tests.support.tiny.silentcipher import write_tiny_silentcipher
from tests.support.tiny.tokenizer import write_byte_tokenizer

MIMI, SILENTCIPHER = "mimi.safetensors", "silentcipher"
_PUBLISHED = Path(__file__).parents[3] / "bundles" / "csm-1b" / "bundle.json"
_NOTICE = "The weights are random: everything sounds like noise, and no mark can be detected."


def write_published_codec(folder: Path) -> None:
    """Writes MIMI and SILENTCIPHER, 0.4 GB."""
    write_published_mimi(folder / MIMI, seed=0)
    write_published_silentcipher(folder / SILENTCIPHER)


def write_published_silentcipher(folder: Path) -> None:
    write_tiny_silentcipher(folder, 0, sample_rate_hz=44100, n_fft=4096, band=1024, published_reader=True)


def write_random_bundle(folder: Path, config: ModelConfig) -> None:
    """config: of the model. A tiny model gets the tiny bundle, with a codec as small.

    A token is a byte of a text: prompts have about four times as many as with the published tokenizer.
    """
    if config is TINY_BUNDLE:
        write_tiny_bundle(folder)
        return
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text(json.dumps(original_config(config)))
    write_byte_tokenizer(folder / "tokenizer.json")
    write_published_codec(folder)
    parts = {"model": "model", "tokenizer": "tokenizer.json", "mimi": MIMI, "silentcipher": SILENTCIPHER}
    manifest = json.loads(_PUBLISHED.read_text()) | {"name": "random", "notice": _NOTICE, "parts": parts}
    (folder / "bundle.json").write_text(json.dumps(manifest, indent=2))
