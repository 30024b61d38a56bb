"""Makes the miniature bundle: every part of a voice, a few megabytes, random weights, real file formats.

    python -m csm_engine.testing.bundle build/bundles/miniature --seed 0

It loads through the same loaders as a real bundle and sounds like noise; its `bundle.json` says so.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path

from csm_engine.codec.identity import CodecIdentity
from csm_engine.testing.csm import MINIATURE, write_original
from csm_engine.testing.mimi import write_miniature_mimi
from csm_engine.testing.silentcipher import write_miniature_silentcipher
from csm_engine.testing.tokenizer import write_byte_tokenizer

NOTICE = "This bundle is untrained: its weights are seeded random numbers, and everything it says sounds like noise."


def write_miniature_bundle(folder: Path, *, seed: int = 0) -> None:
    """Writes the bundle beside `folder` first and moves it there when it is whole, replacing what was there."""
    draft = folder.with_name(folder.name + ".new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    write_original(draft / "model", MINIATURE, seed=seed)
    write_byte_tokenizer(draft / "tokenizer.json")
    codec = write_miniature_mimi(draft / "mimi", seed)
    write_miniature_silentcipher(draft / "silentcipher", seed)
    (draft / "bundle.json").write_text(json.dumps(_manifest(seed, codec), indent=2) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def _manifest(seed: int, codec: CodecIdentity) -> dict[str, object]:
    return {
        "format": 1,
        "name": "miniature",
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
    write_miniature_bundle(arguments.folder, seed=arguments.seed)


if __name__ == "__main__":
    main()
