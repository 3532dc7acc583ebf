"""Scores, violations and tie-breaks of candidates as one kernel: learned and built-in terms.

With gamma the discount, C_k the probability of having gone on and M members that are averaged,

    J = sum_k gamma^k C_k (terms at k) + gamma^F C_F weight V

A term is a row of numbers (kind, index, weight, a, b, log |weight|): objectives are data, and a new
one costs no compilation. What the columns a and b are, `TERM_KINDS` says.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from dmpc_fast.kernels.tiles import power_of_two

#: Kind -> number. a and b: target and 2 x variance of a Gaussian, the target of quadratic and speed,
#: the penalty of being stopped, lower and upper bound; otherwise unused.
TERM_KINDS = {
    name: number
    for number, name in enumerate(
        ("reward", "value", "alive", "gaussian", "quadratic", "speed", "action", "bound")
    )
}
TERM_COLUMNS = 6
#: Below every logarithm that matters; finite, so that differences are numbers.
LOWEST = tl.constexpr(-1e38)
_REWARD, _VALUE, _ALIVE, _GAUSSIAN, _QUADRATIC, _SPEED, _ACTION, _BOUND = (
    tl.constexpr(number) for number in TERM_KINDS.values()
)
#: Steps times candidates of one program.
TILE = 1024


class Statistics(NamedTuple):
    """From normalised to environment units, (1,) float32 each."""

    reward_mean: Tensor
    reward_scale: Tensor
    value_mean: Tensor
    value_scale: Tensor


@triton.jit
def log_sigmoid(x):
    """log(1 / (1 + exp(-x))), small values to full relative accuracy."""
    small = tl.exp(-tl.abs(x))
    # log(1 + small): the rounding of 1 + small is taken out again by the quotient.
    more = 1.0 + small
    lost = more - 1.0
    logarithm = tl.where(
        lost == 0.0, small, tl.log(more) * (small / tl.where(lost == 0.0, 1.0, lost))
    )
    return tl.minimum(x, 0.0) - logarithm


@triton.jit
def _one_minus_exp(x):
    """1 - exp(x) for x <= 0, small values to full relative accuracy."""
    series = -x * (1.0 + x * (0.5 + x * (1.0 / 6 + x * (1.0 / 24 + x * (1.0 / 120)))))
    return tl.where(x > -0.125, series, 1.0 - tl.exp(x))


@triton.jit
def _raise(highest, total, exponents, counts):
    """A running log-sum-exp (highest, total) of candidates, `exponents` (C, F) added where `counts`."""
    exponents = tl.where(counts, exponents, LOWEST)
    higher = tl.maximum(highest, tl.max(exponents, axis=1))
    parts = tl.where(counts, tl.exp(exponents - higher[:, None]), 0.0)
    return higher, total * tl.exp(highest - higher) + tl.sum(parts, axis=1)


@triton.jit(do_not_specialize=["num_terms"])
def _scoring_kernel(
    states, actions, predictions, terms, num_terms, discounts, log_discounts, reward_mean,
    reward_scale, value_mean, value_scale, scores, violations, tie_breaks, count, member_stride,
    STATES: tl.constexpr, ACTIONS: tl.constexpr, HORIZON: tl.constexpr, MEMBERS: tl.constexpr,
    LEARNED: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_F: tl.constexpr,
):  # fmt: skip
    robot = tl.program_id(2)
    candidate = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    step = tl.arange(0, BLOCK_F)
    inside, within = candidate < count, step < HORIZON
    mask = inside[:, None] & within[None, :]
    at = (robot.to(tl.int64) * count + candidate)[:, None] * HORIZON + step[None, :]
    discount = tl.load(discounts + step, within, other=0.0)[None, :]
    log_discount = tl.load(log_discounts + step, within, other=0.0)[None, :]
    effort = tl.zeros((BLOCK_C, BLOCK_F), tl.float32)
    for i in range(ACTIONS):
        action = tl.load(actions + at * ACTIONS + i, mask, other=0.0)
        effort += action * action

    score = tl.zeros((BLOCK_C,), tl.float32)
    violation = tl.zeros((BLOCK_C,), tl.float32)
    highest_for, total_for = (
        tl.full((BLOCK_C,), LOWEST, tl.float32),
        tl.zeros((BLOCK_C,), tl.float32),
    )
    highest_against, total_against = highest_for, total_for
    rewarded, punished = 0, 0
    for member in range(MEMBERS):
        reward = tl.zeros((BLOCK_C, BLOCK_F), tl.float32)
        log_continue, log_reached = reward, reward
        value = tl.zeros((BLOCK_C,), tl.float32)
        log_last = value
        if LEARNED:
            place = predictions + member * member_stride + at * 3
            reward = tl.load(place, mask, other=0.0)
            reward = reward * tl.load(reward_scale) + tl.load(reward_mean)
            log_continue = tl.where(
                within[None, :], log_sigmoid(tl.load(place + 1, mask, other=0.0)), 0.0
            )
            log_reached = tl.cumsum(log_continue, axis=1) - log_continue
            log_last = tl.sum(log_continue, axis=1)
            end = (robot.to(tl.int64) * count + candidate) * HORIZON + HORIZON - 1
            value = tl.load(predictions + member * member_stride + end * 3 + 2, inside, other=0.0)
            value = value * tl.load(value_scale) + tl.load(value_mean)
        rates = tl.zeros((BLOCK_C, BLOCK_F), tl.float32)
        last = tl.zeros((BLOCK_C,), tl.float32)
        for number in range(num_terms):
            term = terms + number * 6
            kind = tl.load(term).to(tl.int32)
            index = tl.load(term + 1).to(tl.int32)
            weight, first, second = tl.load(term + 2), tl.load(term + 3), tl.load(term + 4)
            state = tl.load(states + at * STATES + index, mask, other=0.0)
            apart = state - first
            exponent = -(apart * apart) / tl.where(kind == _GAUSSIAN, second, 1.0)
            rate = tl.where(kind == _REWARD, reward, 0.0)
            rate = tl.where(kind == _ALIVE, -first * _one_minus_exp(log_continue), rate)
            rate = tl.where(kind == _GAUSSIAN, tl.exp(exponent), rate)
            rate = tl.where(kind == _QUADRATIC, -(apart * apart), rate)
            rate = tl.where(kind == _SPEED, -tl.abs(apart), rate)
            rate = tl.where(kind == _ACTION, -effort, rate)
            rates += weight * rate
            last += tl.where(kind == _VALUE, weight * value, 0.0)

            exponent += log_reached + log_discount + tl.load(term + 5)
            # As integers: the interpreter keeps comparisons of floats as floats.
            sign = tl.where(weight > 0, 1, tl.where(weight < 0, -1, 0))
            is_for, is_against = (
                (sign == 1) & (kind == _GAUSSIAN),
                (sign == -1) & (kind == _GAUSSIAN),
            )
            highest_for, total_for = _raise(highest_for, total_for, exponent, mask & is_for)
            highest_against, total_against = _raise(
                highest_against, total_against, exponent, mask & is_against
            )
            rewarded |= is_for.to(tl.int32)
            punished |= is_against.to(tl.int32)
            if member == 0:
                excess = tl.maximum(first - state, 0.0) + tl.maximum(state - second, 0.0)
                excess = tl.where((kind == _BOUND) & mask, excess, 0.0)
                violation += tl.sum(excess, axis=1)
        score += tl.sum(tl.where(mask, discount * tl.exp(log_reached) * rates, 0.0), axis=1)
        score += tl.load(discounts + HORIZON) * tl.exp(log_last) * last

    # The mean over members; what they share does not change which candidate is best.
    log_members = tl.log(MEMBERS * 1.0)
    log_for = highest_for + tl.log(tl.where(total_for > 0, total_for, 1.0)) - log_members
    log_against = highest_against + tl.log(tl.where(total_against > 0, total_against, 1.0))
    tie = tl.where(rewarded == 1, log_for, 0.0)
    tie -= tl.where(punished == 1, log_against - log_members, 0.0)
    out = robot.to(tl.int64) * count + candidate
    tl.store(scores + out, score / MEMBERS, mask=inside)
    tl.store(violations + out, violation, mask=inside)
    tl.store(tie_breaks + out, tie, mask=inside)


def scoring(
    states: Tensor,
    actions: Tensor,
    predictions: Tensor,
    terms: Tensor,
    discounts: Tensor,
    log_discounts: Tensor,
    statistics: Statistics,
    scores: Tensor,
    violations: Tensor,
    tie_breaks: Tensor,
    *,
    learned: bool,
) -> None:
    """Write scores, violations and tie-breaks, (B, N) each.

    states (B, N, F, S), actions (B, N, F, A): environment units. predictions (M, B, N, F, 3):
    normalised reward, logit of going on and normalised value, not read unless `learned`. terms
    (count, 6). discounts, log_discounts (F + 1,): gamma^k and its logarithm. All contiguous float32.
    """
    robots, count, horizon, size = states.shape
    block_f = power_of_two(horizon)
    block_c = max(1, min(power_of_two(count), TILE // block_f))
    members = predictions.shape[0] if learned else 1
    _scoring_kernel[(-(-count // block_c), 1, robots)](
        states, actions, predictions, terms, terms.shape[0], discounts, log_discounts, *statistics,
        scores, violations, tie_breaks, count, predictions.stride(0), STATES=size,
        ACTIONS=actions.shape[-1], HORIZON=horizon, MEMBERS=members, LEARNED=learned,
        BLOCK_C=block_c, BLOCK_F=block_f,
    )  # fmt: skip


def scoring_reference(
    states: Tensor,
    actions: Tensor,
    predictions: Tensor,
    terms: Tensor,
    discounts: Tensor,
    statistics: Statistics,
    *,
    learned: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, violations and tie-breaks (B, N) each, plainly."""
    nothing = torch.zeros_like(states[None, ..., 0])
    reward, log_continue, value = nothing, nothing, nothing[..., 0]
    if learned:
        reward = predictions[..., 0] * statistics.reward_scale + statistics.reward_mean
        log_continue = torch.nn.functional.logsigmoid(predictions[..., 1])
        value = predictions[..., -1, 2] * statistics.value_scale + statistics.value_mean
    log_reached = log_continue.cumsum(-1) - log_continue
    weights = discounts[:-1] * log_reached.exp()
    scores, violations = value * 0, value[0] * 0
    exponents: dict[bool, list[Tensor]] = {True: [], False: []}
    names = list(TERM_KINDS)
    for kind, index, weight, first, second, log_weight in terms.tolist():
        name, state = names[int(kind)], states[..., int(index)]
        if name == "value":
            scores = scores + weight * discounts[-1] * log_continue.sum(-1).exp() * value
        elif name == "bound":
            violations = violations + (first - state).clamp(min=0).sum(-1)
            violations = violations + (state - second).clamp(min=0).sum(-1)
        else:
            learned_rates = {"reward": reward, "alive": first * log_continue.expm1()}
            rate = learned_rates.get(name)
            if rate is None:
                rate = _built_in_rate(name, state, actions, first, second)
            scores = scores + weight * (weights * rate).sum(-1)
            if name == "gaussian" and weight:
                exponent = -((state - first) ** 2) / second
                exponents[weight > 0].append(exponent + weights.log() + log_weight)
    tie_breaks = violations * 0
    for sign, parts in ((1.0, exponents[True]), (-1.0, exponents[False])):
        if parts:
            both = torch.stack(parts)
            members = torch.tensor(float(both.shape[1])).log()
            tie_breaks = tie_breaks + sign * (both.logsumexp((0, 1, -1)) - members)
    return scores.mean(0), violations, tie_breaks


def _built_in_rate(
    name: str, state: Tensor, actions: Tensor, first: float, second: float
) -> Tensor:
    """What a term that needs no network gives at every step, without its weight."""
    apart = state - first
    if name == "gaussian":
        return torch.exp(-(apart**2) / second)
    if name == "quadratic":
        return -(apart**2)
    return -apart.abs() if name == "speed" else -(actions**2).sum(-1)
