"""The check that an arm of the frame-step benchmark must pass before it is timed, and the error of its logits.

Every arm draws the same frames greedily. As one different code changes all later ones, codes are compared row by row up
to the first difference. Between float32 arms no code may differ; with bfloat16 one in ten of the compared codes may.
Codes of arms in eight bits are not checked; the error of their logits is reported instead.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import torch
from torch import Tensor

from bench.arms import Arm, Ours
from csm_engine.types import SamplingParams

GREEDY = SamplingParams(temperature=0.0, top_k=1, seed=1)
FRAMES = 5
NEEDED_IN_BFLOAT16 = 0.9


def check(arms: dict[str, Arm], prompts: Tensor) -> dict[str, float]:
    """The share of the compared codes in which each arm agrees with the first one.

    Exits the program if ours and the reference disagree. Removes other arms that fail from `arms`.
    """
    first, *others = arms
    expected, agreement = _greedy_codes(arms[first], prompts), {}
    for name in others:
        agreement[name] = share = agreeing_share(_greedy_codes(arms[name], prompts), expected)
        exact = arms[name].dtype is arms[first].dtype is torch.float32
        if share >= (1.0 if exact else NEEDED_IN_BFLOAT16) or _in_eight_bits(arms[name]):
            continue
        failure = f"gate: only {share:.1%} of the greedy codes of {name} are those of {first}"
        if {name, first} == {"ours", "reference"}:
            sys.exit(f"{failure}; no figures")
        print(f"{failure}; it is not timed", flush=True)
        del arms[name]
    return {name: round(share, 4) for name, share in agreement.items()}


def _in_eight_bits(arm: Arm) -> bool:
    return isinstance(arm, Ours) and arm.in_eight_bits


def agreeing_share(codes: Tensor, expected: Tensor) -> float:
    """The share of equal codes up to and including each row's first different one. Both: (frames, B, K)."""
    equal = (codes == expected).movedim(1, 0).flatten(1)  # (B, frames K)
    leading = int(equal.long().cumprod(dim=1).sum())
    return leading / (leading + int((~equal.all(dim=1)).sum()))


def _greedy_codes(arm: Arm, prompts: Tensor) -> Tensor:
    """(FRAMES, B, K)."""
    arm.start(prompts, GREEDY)
    return torch.stack([arm.frame().clone() for _ in range(FRAMES)]).cpu()


def logit_error(arm: Ours, exact: Ours, prompts: Tensor, codes: Tensor) -> dict[str, float]:
    """How far the logits of one frame are from the exact ones, with the same codes as input.

    prompts: (B, T, D). codes: (B, K).
    """
    ours, right = arm.logits(prompts, codes).float(), exact.logits(prompts, codes).float()
    return {"relative": relative_error(ours, right), "same_best": same_best(ours, right)}


def relative_error(logits: Tensor, exact: Tensor) -> float:
    """The root mean square error divided by the root mean square of the exact logits."""
    return round(((logits - exact).square().mean() / exact.square().mean()).sqrt().item(), 5)


def same_best(logits: Tensor, exact: Tensor) -> float:
    """The share of codebooks with the same most likely code."""
    return round((logits.argmax(dim=-1) == exact.argmax(dim=-1)).double().mean().item(), 4)


def check_no_row_ended(arms: Iterable[Arm]) -> None:
    """Exits the program if a row has ended: from then on it was padding, which costs less."""
    if any(isinstance(arm, Ours) and arm.any_row_ended() for arm in arms):
        sys.exit("a row ended before its turn was over; no figures")
