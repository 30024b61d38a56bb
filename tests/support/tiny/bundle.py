"""Makes the tiny bundle: every part of a voice, a few megabytes, real file formats.

    python -m tests.support.tiny.bundle build/bundles/tiny --seed 0

It is loaded like a real bundle. Its weights are random, so it sounds like noise, and its `bundle.json` says so. Only
the watermark's networks are trained: the noise carries a mark that can be detected.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import yaml

from csm_bundle.codec_identity import CodecIdentity
from tests.support.tiny.csm import TINY_BUNDLE, write_original
from tests.support.tiny.mimi import write_tiny_mimi
from tests.support.tiny.tokenizer import write_byte_tokenizer

TRAINED_SILENTCIPHER = Path(__file__).parents[3] / "bundles" / "builtin" / "silentcipher"
NOISE_SDR_DB = 25.0  # stronger than in speech: noise hides the mark from the detector
NOTICE = "This bundle is untrained: its weights are seeded random numbers, and everything it says sounds like noise."


def write_tiny_bundle(folder: Path, *, seed: int = 0, num_codebooks: int = TINY_BUNDLE.num_codebooks) -> None:
    """Writes the bundle, in place of what was there. `folder` never has half a bundle.

    num_codebooks: an engine on a CPU takes as much longer for a frame as there are more of them.
    """
    draft = folder.with_name(folder.name + ".new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    write_original(draft / "model", replace(TINY_BUNDLE, num_codebooks=num_codebooks), seed=seed)
    write_byte_tokenizer(draft / "tokenizer.json")
    codec = write_tiny_mimi(draft / "mimi", seed, num_codebooks=num_codebooks)
    _copy_silentcipher(draft / "silentcipher")
    (draft / "bundle.json").write_text(json.dumps(_manifest(seed, codec), indent=2) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def _copy_silentcipher(folder: Path) -> None:
    shutil.copytree(TRAINED_SILENTCIPHER, folder)
    path = folder / "hparams.yaml"
    hparams = yaml.safe_load(path.read_text()) | {"message_sdr": NOISE_SDR_DB}
    path.write_text(yaml.safe_dump(hparams, sort_keys=False))


def _manifest(seed: int, codec: CodecIdentity) -> dict[str, object]:
    return {
        "format": 1,
        "name": "tiny",
        "version": f"seed-{seed}",
        "notice": NOTICE,
        "parts": {
            "model": "model",
            "tokenizer": "tokenizer.json",
            "mimi": "mimi",
            "silentcipher": "silentcipher",
        },
        "codec": asdict(codec),
        "voices": [
            {
                "name": f"speaker-{speaker}",
                "speaker": speaker,
                "language_codes": ["en"],
                "description": f"Untrained noise, speaker {speaker}.",
            }
            for speaker in range(2)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_tiny_bundle(arguments.folder, seed=arguments.seed)


if __name__ == "__main__":
    main()
