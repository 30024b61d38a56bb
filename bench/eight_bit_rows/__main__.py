"""What the products of CSM's layers lose when their rows have eight bits as well as their weights, on a CPU.

    python -m bench.eight_bit_rows logits --layers 2,4 --json bench/results/eight_bit_rows_cpu.json
    python -m bench.eight_bit_rows logits --bundle bundles/builtin --json bench/results/eight_bit_rows_cpu.json
    python -m bench.eight_bit_rows words --bundle bundles/builtin --json bench/results/eight_bit_rows_words_cpu.json

`logits` gives every arm the same frames: of random weights of CSM-1B's widths, or of a bundle's voice with the codes
that it says greedily. `words` lets a bundle's voice speak and counts the words that a recogniser gets wrong. The
arithmetic is emulated in float32 (rounding.py), so nothing here says how long a frame takes. Heads, norms and
embeddings keep their type. Rows of a result are kept until they are measured again.

  relative, same_best             change of the logits, root mean square; share of the codes that stay the most likely
  depth_...                       of the depth decoder's codebooks alone
  same_codes                      of a voice that goes on from its own codes: share equal to today's before the first
                                  unlike one of a saying, of those and the unlike ones
  wrong, change_low, change_high  share of words; 95 % interval of its change over the same texts
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.eight_bit_rows.forced import SLOTS, compared, hidden_of, logits_of
from bench.eight_bit_rows.rounding import Arm, Form, packed_as, rows_rounded
from bench.eight_bit_rows.words import SPEAKERS, counted, rates, said, same_codes
from bench.shapes import CSM_1B
from csm_bundle.bundle import open_bundle
from csm_engine.model.csm import CSM
from csm_engine.model.loader import load_model, random_model
from csm_engine.model.tokenizer import TextTokenizer
from csm_text.frontend import load
from recipes.builtin_voice.evaluation.results import Results
from recipes.builtin_voice.evaluation.sets import judged

FORMS: tuple[Form, Form] = ("int8", "float8")
KEY = ("model", "stacks", "weights", "rows", "block", "norms", "first_seed")
GREEDY_TEXTS = 20
CONTEXT = 128
OTHER_SEEDS = 1000
LOGITS = [
    *(Arm(stacks, form, form, 64) for stacks in ("depth", "both") for form in FORMS),
    *(Arm(stacks, form) for stacks in ("depth", "both") for form in FORMS),
    *(Arm(stacks, "bfloat16", "bfloat16") for stacks in ("depth", "both")),
    *(Arm("depth", form, form, block) for form in FORMS for block in (32, 128, None)),
    *(Arm("both", form, form, None) for form in FORMS),
    *(Arm("depth", "float32", form) for form in FORMS),
    *(Arm("depth", form, form, 64, "weights") for form in FORMS),
]
WORDS = [
    Arm("depth", "int8", "int8"),
    Arm("both", "int8", "int8"),
    Arm("depth", "float8", "float8"),
    Arm("both", "int8"),
    Arm("both", "float8", "float8"),
]


@dataclass(frozen=True, slots=True)
class Frames:
    """What every arm is given. prompts: (T, D) each; codes: (frames, K) each."""

    name: str
    model: Callable[[], CSM]  # anew: an arm changes it
    prompts: Sequence[Tensor]
    codes: Sequence[Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["logits", "words"])
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--layers", default="2,1", help="of backbone and depth decoder, without --bundle")
    parser.add_argument("--batch", type=int, default=2 * SLOTS, help="prompts, without --bundle")
    parser.add_argument("--texts", type=int, default=60, help="of the everyday set, with --bundle")
    parser.add_argument("--arms", type=int, help="the first so many")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.part == "words" and arguments.bundle is None:
        parser.error("words needs --bundle.")
    torch.set_num_threads(1)
    results = Results(arguments.json, f"eight_bit_rows_{arguments.part}", KEY, {})
    with torch.inference_mode():
        if arguments.part == "words":
            measure_words(results, arguments.bundle, arguments.texts, WORDS[: arguments.arms])
        else:
            layers = [int(number) for number in arguments.layers.split(",")]
            frames = (
                random_frames(*layers, arguments.batch)
                if arguments.bundle is None
                else voice_frames(arguments.bundle, arguments.texts)
            )
            measure_logits(results, frames, LOGITS[: arguments.arms])


def measure_logits(results: Results, frames: Frames, arms: Sequence[Arm]) -> None:
    """The states before a frame are the exact ones where the backbone is exact."""
    weights = packed_as(frames.model(), Arm())
    exact_hidden = hidden_of(weights, frames.prompts, frames.codes)
    exact = logits_of(weights, exact_hidden, frames.codes)
    for arm in arms:
        weights = packed_as(frames.model(), arm)
        with rows_rounded():
            hidden = hidden_of(weights, frames.prompts, frames.codes) if arm.stacks == "both" else exact_hidden
            logits = logits_of(weights, hidden, frames.codes)
        put(results, {"model": frames.name, **arm.told(), "frames": len(exact), **compared(logits, exact)})


def measure_words(results: Results, bundle: Path, num_texts: int, arms: Sequence[Arm]) -> None:
    """The row in float32 is today's; the one with other seeds shows what chance changes."""
    texts, name = judged("everyday", num_texts), voice_name(bundle)
    spoken, greedy = (said(bundle, Arm(), texts, greedy=False), said(bundle, Arm(), texts[:GREEDY_TEXTS], greedy=True))
    rate_hz = open_bundle(str(bundle)).codec.sample_rate_hertz
    today = counted(spoken, texts, rate_hz)
    for arm, seed in [(Arm(), 0), (arms[0], 0), (Arm(), OTHER_SEEDS), *((arm, 0) for arm in arms[1:])]:
        again = said(bundle, arm, texts, greedy=False, first_seed=seed)
        its_greedy = said(bundle, arm, texts[:GREEDY_TEXTS], greedy=True)
        counts = counted(again, texts, rate_hz) if (arm, seed) != (Arm(), 0) else today
        alike = {"sampled_same_codes": same_codes(again, spoken)["same_codes"], **same_codes(its_greedy, greedy)}
        conditions = {"model": name, **arm.told(), "first_seed": seed, "sayings": len(again)}
        put(results, {**conditions, **rates(counts, today), **alike})


def put(results: Results, row: dict[str, object]) -> None:
    results.put(row)
    print(json.dumps(row), file=sys.stderr, flush=True)


def random_frames(backbone_layers: int, depth_layers: int, batch: int) -> Frames:
    config = replace(
        CSM_1B,
        backbone=replace(CSM_1B.backbone, num_layers=backbone_layers, max_seq_len=2 * CONTEXT),
        depth_decoder=replace(CSM_1B.depth_decoder, num_layers=depth_layers),
        text_vocab_size=320,
    )
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randn(batch, CONTEXT, config.backbone.dim, generator=generator)
    codes = torch.randint(config.codebook_size, (batch, 1, config.num_codebooks), generator=generator)
    name = f"random, {backbone_layers} and {depth_layers} layers"
    return Frames(name, lambda: random_model(config, seed=0), list(prompts), list(codes))


def voice_frames(bundle: Path, num_texts: int) -> Frames:
    texts, opened = judged("everyday", num_texts), open_bundle(str(bundle))
    model = load_model(opened.path("model"))
    tokenizer = TextTokenizer(opened.path("tokenizer"), model.config.text_vocab_size)
    read = load(opened.text_frontend).phonemize if opened.text_frontend else str
    ids = [torch.tensor(tokenizer.encode(who, read(text.text))) for text in texts for who in SPEAKERS]
    sayings = said(bundle, Arm(), texts, greedy=True)
    return Frames(
        voice_name(bundle),
        lambda: load_model(opened.path("model")),
        [F.embedding(tokens, model.text_embeddings.weight) for tokens in ids],
        [torch.from_numpy(saying.codes).long() for saying in sayings],
    )


def voice_name(bundle: Path) -> str:
    opened = open_bundle(str(bundle))
    return f"{opened.name}/{opened.version}"


if __name__ == "__main__":
    main()
