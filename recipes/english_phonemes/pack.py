"""Packs CMUdict for csm_text: python -m recipes.english_phonemes.pack cmudict.dict csm_text/data/cmudict.z"""

from __future__ import annotations

import sys
from pathlib import Path

from csm_text.pronunciation.dictionary import pack
from recipes.english_phonemes import dictionary

if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_bytes(pack({word: found[0] for word, found in dictionary.read(source).items()}))
    print(f"{target}: {target.stat().st_size} bytes")
