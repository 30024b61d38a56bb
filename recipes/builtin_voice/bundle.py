"""Puts the trained parts together as a bundle, in the production bundle's file formats.

    python -m recipes.builtin_voice.bundle build/voice bundles/builtin
    python -m recipes.builtin_voice.bundle build/voice build/bundle --weights build/weights --codec-of bundles/builtin

--weights: the CSM's weights as a training exports them, in place of its checkpoint. --codec-of: a bundle to take codec
and watermark from, unchanged. Weights are written as float16. The watermark's folder is left as it is
(recipes/builtin_voice/watermark).
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch

from csm_bundle.codec_identity import CodecIdentity
from csm_codec.mimi.loader import load_mimi
from recipes.builtin_voice.codec import train_decoder, train_encoder
from recipes.builtin_voice.codec.network import mimi_config, new_mimi
from recipes.builtin_voice.codec.quantizer import Quantizer
from recipes.builtin_voice.csm.network import csm_config, new_csm
from recipes.builtin_voice.csm.shards import read_shards
from recipes.builtin_voice.csm.tokenizer import TEXT_FRONTEND, write_tokenizer
from recipes.builtin_voice.training import state_of
from recipes.builtin_voice.watermark.train import rounded
from tests.support.tiny.csm import save_original
from tests.support.tiny.mimi import save_mimi

NOTICE = (
    "This is the small built-in voice: two synthetic speakers, English, trained in this project. It shows that"
    " everything works and does not sound like the published model."
)
VOICES = (("slt", "A woman, after the voice slt of flite."), ("rms", "A man, after the voice rms of flite."))
SAMPLING = {"temperature": 0.15, "top_k": 20}


def write_bundle(
    trained: Path, folder: Path, version: str, *, weights: Path | None = None, codec_of: Path | None = None
) -> None:
    """trained: the folder with quantizer.pt, and decoder.pt, encoder.pt, csm.pt where the others are not given."""
    quantizer = Quantizer.load(trained / "quantizer.pt")
    if codec_of:
        for part in ("mimi", "silentcipher"):
            shutil.copytree(codec_of / part, folder / part, dirs_exist_ok=True)
        codec = load_mimi(folder / "mimi").identity
    else:
        codec = _write_mimi(trained, folder / "mimi", quantizer)
        _round_silentcipher(folder / "silentcipher")
    _write_csm(trained, folder / "model", quantizer, weights)
    write_tokenizer(folder / "tokenizer.json")
    (folder / "bundle.json").write_text(json.dumps(_manifest(version, codec), indent=2) + "\n")


@torch.no_grad()
def _write_mimi(trained: Path, folder: Path, quantizer: Quantizer) -> CodecIdentity:
    model = new_mimi(quantizer)
    state_of(trained / "decoder.pt", train_decoder.decoder_parts(model))
    state_of(trained / "encoder.pt", train_encoder.encoder_parts(model))
    # The networks were trained at a level of their own.
    last, first = model.decoder.model[-1].conv.conv, model.encoder.model[0].conv.conv
    last.weight.div_(train_decoder.GAIN)
    last.bias.div_(train_decoder.GAIN)
    first.weight.mul_(train_encoder.GAIN)
    return save_mimi(folder, model, mimi_config(quantizer), dtype=torch.float16)


def _write_csm(trained: Path, folder: Path, quantizer: Quantizer, weights: Path | None) -> None:
    model = new_csm(csm_config(quantizer.num_codebooks, quantizer.bins), seed=0)
    if weights:
        read_shards(weights, model)
    else:
        state_of(trained / "csm.pt", model, prefix="csm.")
    save_original(folder, model, dtype=torch.float16)


def _round_silentcipher(folder: Path) -> None:
    """Its own recipe has put it there, as float32; the statistics stay so."""
    for path in sorted(folder.glob("*.ckpt")):
        torch.save(rounded(torch.load(path, weights_only=True)), path)


def _manifest(version: str, codec: CodecIdentity) -> dict[str, object]:
    return {
        "format": 1,
        "name": "builtin",
        "version": version,
        "notice": NOTICE,
        "parts": {"model": "model", "tokenizer": "tokenizer.json", "mimi": "mimi", "silentcipher": "silentcipher"},
        "text_frontend": TEXT_FRONTEND,
        "codec": asdict(codec),
        "sampling": SAMPLING,
        "voices": [
            {"name": name, "speaker": speaker, "language_codes": ["en"], "description": description}
            for speaker, (name, description) in enumerate(VOICES)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--version", default="1")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--codec-of", type=Path)
    arguments = parser.parse_args()
    write_bundle(
        arguments.trained,
        arguments.folder,
        arguments.version,
        weights=arguments.weights,
        codec_of=arguments.codec_of,
    )


if __name__ == "__main__":
    main()
