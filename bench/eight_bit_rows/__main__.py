"""What the products of CSM's layers lose when their rows have eight bits as well as their weights, on a CPU.

    python -m bench.eight_bit_rows logits --layers 2 4 --json bench/results/eight_bit_rows_cpu.json
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
  share, change_low, change_high  words wrong; 95 % interval of the change from today's, over the same texts
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.command import parser_of
from bench.eight_bit_rows.forced import SLOTS, compared, hidden_of, logits_of
from bench.eight_bit_rows.rounding import Arm, Form, packed_as, rows_rounded
from bench.eight_bit_rows.words import SPEAKERS, Counts, RoundedVoice, rates, same_codes
from bench.shapes import CSM_1B
from csm_bundle.bundle import open_bundle
from csm_engine.execution.weights import pack
from csm_engine.model.csm import CSM
from csm_engine.model.loader import load_model, random_model
from csm_engine.model.tokenizer import TextTokenizer
from csm_text.frontend import load
from recipes.builtin_voice.evaluation.results import Results
from recipes.builtin_voice.evaluation.sets import EvaluationText, evaluation_texts
from recipes.builtin_voice.evaluation.voice import Saying

FORMS: tuple[Form, Form] = ("int8", "float8")
KEY = ("model", "stacks", "weights", "rows", "block", "norms", "first_seed")
GREEDY_TEXTS = 24
NOTE = "Rounding is emulated in float32. Random models have CSM-1B's widths; layers are of backbone and depth decoder."
CONTEXT = 128
LOGITS = [
    *(Arm(stacks, form, form, 64) for stacks in ("depth", "both") for form in FORMS),
    *(Arm(stacks, form) for stacks in ("depth", "both") for form in FORMS),
    *(Arm(stacks, "bfloat16", "bfloat16") for stacks in ("depth", "both")),
    *(Arm("depth", form, form, block) for form in FORMS for block in (32, 128, None)),
    *(Arm("both", form, form, None) for form in FORMS),
    *(Arm("depth", "float32", form) for form in FORMS),
    *(Arm("depth", form, form, 64, "weights") for form in FORMS),
    Arm("depth", "int8", "int8", parts=8),  # as the depth decoder's kernel adds up
]
Spoken = tuple[Arm, int]  # and the first seed
TODAY: Spoken = (Arm(), 0)
WORDS: tuple[Spoken, ...] = (
    TODAY,
    (Arm("depth", "int8", "int8"), 0),
    (Arm("both", "int8", "int8"), 0),
    (Arm(), 1000),  # today's arm with other seeds: the effect of chance
)


@dataclass(frozen=True, slots=True)
class Frames:
    """The input of every arm. prompts: (T, D) each. codes: (frames, K) each."""

    name: str
    model: CSM
    prompts: Sequence[Tensor]
    codes: Sequence[Tensor]


def main() -> None:
    parser = parser_of("bench.eight_bit_rows", __doc__)
    parser.add_argument("part", choices=["logits", "words"])
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--layers", nargs=2, type=int, default=[2, 1], help="of backbone and depth decoder")
    parser.add_argument("--batch", type=int, default=2 * SLOTS, help="prompts, without --bundle")
    parser.add_argument("--texts", type=int, default=60, help="of the everyday set, with --bundle")
    parser.add_argument("--arms", type=int, help="of logits, the first so many")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.part == "words" and arguments.bundle is None:
        parser.error("words needs --bundle.")
    torch.set_num_threads(1)
    results = Results(arguments.json, f"eight_bit_rows_{arguments.part}", KEY, {"note": NOTE})
    with torch.inference_mode():
        if arguments.part == "words":
            measure_words(results, arguments.bundle, evaluation_texts("everyday", arguments.texts))
        else:
            frames = (
                random_frames(arguments.layers[0], arguments.layers[1], arguments.batch)
                if arguments.bundle is None
                else voice_frames(arguments.bundle, arguments.texts)
            )
            measure_logits(results, frames, LOGITS[: arguments.arms])


def measure_logits(results: Results, frames: Frames, arms: Sequence[Arm]) -> None:
    """Measures each arm's logits. An arm whose backbone is exact gets the exact hidden states."""
    today = pack(frames.model, compiled=False)
    exact_hidden = hidden_of(today, frames.prompts, frames.codes)
    exact = logits_of(today, exact_hidden, frames.codes)
    for arm in arms:
        weights = packed_as(frames.model, arm, today)
        with rows_rounded():
            hidden = hidden_of(weights, frames.prompts, frames.codes) if arm.stacks == "both" else exact_hidden
            logits = logits_of(weights, hidden, frames.codes)
        put(results, {"model": frames.name, **arm.told(), "frames": len(exact), **compared(logits, exact)})


def measure_words(results: Results, bundle: Path, texts: Sequence[EvaluationText]) -> None:
    """Runs every arm on some texts, then on the next ones, so an interrupted run has all arms on the same texts."""
    name = voice_name(bundle)
    voices = {arm: RoundedVoice(bundle, arm) for arm, _ in WORDS}
    greedy = {arm: voice.say(texts[:GREEDY_TEXTS], greedy=True) for arm, voice in voices.items()}
    sayings: dict[Spoken, list[Saying]] = {key: [] for key in WORDS}
    counts: dict[Spoken, Counts] = {key: [] for key in WORDS}
    for at in range(0, len(texts), SLOTS):
        some = texts[at : at + SLOTS]
        for arm, seed in WORDS:
            said = voices[arm].say(some, first_seed=seed + at)
            sayings[arm, seed] += said
            counts[arm, seed] += voices[arm].errors(said, some)
        for (arm, seed), its in sayings.items():
            row = {"model": name, **arm.told(), "first_seed": seed, "sayings": len(its)}
            row |= rates(counts[arm, seed], counts[TODAY])
            row |= {"sampled_same_codes": same_codes(its, sayings[TODAY])["same_codes"]}
            put(results, row | same_codes(greedy[arm], greedy[TODAY[0]]))


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
    return Frames(name, random_model(config, seed=0), list(prompts), list(codes))


def voice_frames(bundle: Path, num_texts: int) -> Frames:
    texts, opened = evaluation_texts("everyday", num_texts), open_bundle(str(bundle))
    model = load_model(opened.path("model"))
    tokenizer = TextTokenizer(opened.path("tokenizer"), model.config.text_vocab_size)
    read = load(opened.text_frontend).utterance if opened.text_frontend else str
    ids = [torch.tensor(tokenizer.encode(at % SPEAKERS, read(text.text))) for at, text in enumerate(texts)]
    sayings = RoundedVoice(bundle, Arm()).say(texts, greedy=True)
    return Frames(
        voice_name(bundle),
        model,
        [F.embedding(tokens, model.text_embeddings.weight) for tokens in ids],
        [torch.from_numpy(saying.codes).long() for saying in sayings],
    )


def voice_name(bundle: Path) -> str:
    opened = open_bundle(str(bundle))
    return f"{opened.name}/{opened.version}"


if __name__ == "__main__":
    main()
