"""The best candidate of every robot, and its first action.

Smallest violation, then highest score, then highest tie-break, then the lowest number. What is not a
number ranks below everything that is one.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from dmpc_fast.kernels.tiles import power_of_two

#: Candidates that are looked at together.
MAX_BLOCK = 1024


@triton.jit
def _key(pointer, base, candidate, count):
    """What is minimised, and whether it is a number."""
    value = tl.load(pointer + base + candidate, candidate < count, other=0.0)
    return value, _equal(value, value) & (candidate < count)


@triton.jit
def _equal(a, b):
    """As integers, because the interpreter keeps comparisons of floats as floats."""
    return tl.where(a == b, 1, 0) == 1


@triton.jit
def _ranking_kernel(
    scores, violations, tie_breaks, actions, best, action, count, stride,
    ACTIONS: tl.constexpr, BLOCK: tl.constexpr, BLOCK_A: tl.constexpr,
):  # fmt: skip
    robot = tl.program_id(0)
    base = robot.to(tl.int64) * count
    lane = tl.arange(0, BLOCK)
    inf: tl.constexpr = float("inf")

    # Each pass finds a key's best value among the candidates that the keys before leave over.
    least, any_violation = inf, 0
    for start in range(0, count, BLOCK):
        value, number = _key(violations, base, start + lane, count)
        least = tl.minimum(least, tl.min(tl.where(number, value, inf), axis=0))
        any_violation = tl.maximum(any_violation, tl.max(number.to(tl.int32), axis=0))

    most, any_score = -inf, 0
    for start in range(0, count, BLOCK):
        value, number = _key(violations, base, start + lane, count)
        kept = (start + lane < count) & ((any_violation == 0) | (number & _equal(value, least)))
        value, number = _key(scores, base, start + lane, count)
        number &= kept
        most = tl.maximum(most, tl.max(tl.where(number, value, -inf), axis=0))
        any_score = tl.maximum(any_score, tl.max(number.to(tl.int32), axis=0))

    firm, any_tie = -inf, 0
    for start in range(0, count, BLOCK):
        value, number = _key(violations, base, start + lane, count)
        kept = (start + lane < count) & ((any_violation == 0) | (number & _equal(value, least)))
        value, number = _key(scores, base, start + lane, count)
        kept &= (any_score == 0) | (number & _equal(value, most))
        value, number = _key(tie_breaks, base, start + lane, count)
        number &= kept
        firm = tl.maximum(firm, tl.max(tl.where(number, value, -inf), axis=0))
        any_tie = tl.maximum(any_tie, tl.max(number.to(tl.int32), axis=0))

    chosen = count
    for start in range(0, count, BLOCK):
        value, number = _key(violations, base, start + lane, count)
        kept = (start + lane < count) & ((any_violation == 0) | (number & _equal(value, least)))
        value, number = _key(scores, base, start + lane, count)
        kept &= (any_score == 0) | (number & _equal(value, most))
        value, number = _key(tie_breaks, base, start + lane, count)
        kept &= (any_tie == 0) | (number & _equal(value, firm))
        chosen = tl.minimum(chosen, tl.min(tl.where(kept, start + lane, count), axis=0))

    tl.store(best + robot, chosen.to(tl.int64))
    part = tl.arange(0, BLOCK_A)
    first = tl.load(actions + (base + chosen) * stride + part, part < ACTIONS, other=0.0)
    tl.store(action + robot * ACTIONS + part, first, mask=part < ACTIONS)


def ranking(
    scores: Tensor,
    violations: Tensor,
    tie_breaks: Tensor,
    actions: Tensor,
    best: Tensor,
    action: Tensor,
) -> None:
    """Write the best candidates to `best` (B,) int64 and their first actions to `action` (B, A).

    scores, violations, tie_breaks: (B, N). actions: (B, N, F, A). Contiguous.
    """
    robots, count = scores.shape
    size = actions.shape[-1]
    _ranking_kernel[(robots,)](
        scores, violations, tie_breaks, actions, best, action, count, actions.stride(1),
        ACTIONS=size, BLOCK=min(MAX_BLOCK, power_of_two(count)), BLOCK_A=power_of_two(size),
    )  # fmt: skip


def ranking_reference(scores: Tensor, violations: Tensor, tie_breaks: Tensor) -> Tensor:
    """The best candidates (B,), plainly."""
    best = []
    for keys in zip(violations, -scores, -tie_breaks, strict=True):
        kept = torch.arange(scores.shape[1], device=scores.device)
        for key in keys:
            values = key[kept]
            numbers = values[~values.isnan()]
            if len(numbers):
                kept = kept[values == numbers.min()]
        best.append(kept[0])
    return torch.stack(best)
