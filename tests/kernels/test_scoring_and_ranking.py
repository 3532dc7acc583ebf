"""Scores of every kind of term, and the rank of candidates with ties and numbers that are none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from op_bounds import double, empty, error, limit

from dmpc_fast import objectives
from dmpc_fast.backends.terms import term_rows
from dmpc_fast.kernels.ranking import ranking, ranking_reference
from dmpc_fast.kernels.scoring import Statistics, scoring, scoring_reference
from dmpc_fast.objectives import (
    ActionCost,
    Alive,
    GaussianTarget,
    LearnedReward,
    LearnedValue,
    QuadraticTarget,
    Speed,
    StateBound,
    Term,
)

EVERY = (
    LearnedReward(0.8), LearnedValue(-0.5), Alive(1.5), GaussianTarget(0, 0.5, 0.3, 2.0),
    GaussianTarget(2, 0.0, 0.5, -1.0), GaussianTarget(1, 0.0, 0.5, 0.0), QuadraticTarget(1, 0.4, 0.3),
    Speed(2, -0.5, 0.7), ActionCost(0.2), StateBound(1, low=-1.0, high=1.0), StateBound(2, low=-0.5),
)  # fmt: skip
OBJECTIVES: dict[str, tuple[Term, ...] | None] = {
    "learned": None,
    "every": EVERY,
    "built-in": EVERY[3:],
    "far": (GaussianTarget(0, 40.0, 5e-4, 5.0), GaussianTarget(1, -30.0, 1e-3, -2.0)),
}


@pytest.mark.parametrize("terms", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize(("robots", "count", "horizon", "members"), [(1, 1, 1, 1), (2, 37, 33, 2)])
def test_scoring(
    terms: tuple[Term, ...] | None, robots: int, count: int, horizon: int, members: int,
    device: torch.device,
) -> None:  # fmt: skip
    learned = objectives.needs_learned(terms)
    states = torch.randn(robots, count, horizon, 3, device=device)
    actions = torch.randn(robots, count, horizon, 2, device=device)
    predictions = 3 * torch.randn(members, robots, count, horizon, 3, device=device)
    powers = objectives.discount_powers(0.95, horizon)
    discounts, logs = (
        torch.tensor(x, dtype=torch.float32, device=device) for x in (powers, np.log(powers))
    )
    numbers = torch.tensor([[0.3], [1.7], [-2.0], [4.0]], device=device)
    rows = torch.from_numpy(term_rows(terms, 3.0)).to(device)
    found = [empty(robots, count, device=device) for _ in range(3)]
    scoring(
        states, actions, predictions, rows, discounts, logs, Statistics(*numbers), *found,
        learned=learned,
    )  # fmt: skip
    given = (states, actions, predictions, rows, discounts, Statistics(*numbers))
    exact = scoring_reference(*double(given), learned=learned)  # type: ignore[misc]
    single = scoring_reference(*given, learned=learned)
    for name, ours, theirs, torchs in zip(
        ("scores", "violations", "tie_breaks"), found, exact, single, strict=True
    ):
        assert error(ours, theirs) <= limit("float32", lambda x=torchs: x, theirs), name


def test_the_plain_reference_is_the_packages_definition() -> None:
    """The reference of a kernel knows no terms, only rows of numbers: they must mean the same."""
    states, actions = torch.randn(2, 7, 5, 3).double(), torch.randn(2, 7, 5, 2).double()
    reward, logit, value = torch.randn(3, 2, 2, 7, 5).double()
    discounts = torch.from_numpy(objectives.discount_powers(0.9, 5))
    learned = objectives.Learned(reward, torch.nn.functional.logsigmoid(logit), value[..., -1])
    rows = torch.from_numpy(term_rows(EVERY, 3.0)).double()
    unit = Statistics(*torch.tensor([[0.0], [1.0], [0.0], [1.0]]).double())
    found = scoring_reference(
        states,
        actions,
        torch.stack([reward, logit, value], -1),
        rows,
        discounts,
        unit,
        learned=True,
    )
    exact = objectives.evaluate(
        EVERY, states, actions, discounts=discounts, penalty=3.0, learned=learned, xp=torch
    )
    for ours, theirs in zip(found, exact, strict=True):
        # Terms are float32 numbers to a kernel.
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def rank(keys: tuple[torch.Tensor, ...], actions: torch.Tensor) -> tuple[np.ndarray, torch.Tensor]:
    best = torch.full((len(actions),), -1, device=actions.device)
    action = empty(len(actions), actions.shape[-1], device=actions.device)
    ranking(*keys, actions, best, action)
    return best.cpu().numpy(), action


@pytest.mark.parametrize("count", [1, 3, 64, 1500])
def test_ranking_breaks_ties_as_the_planner_does(count: int, device: torch.device) -> None:
    rng = np.random.default_rng()
    # Few distinct values, so that every key has ties.
    keys = [rng.integers(0, 3, (4, count)).astype(np.float32) for _ in range(3)]
    for key, special in zip(keys, (np.nan, np.inf, -np.inf), strict=True):
        key[rng.random(key.shape) < 0.2] = special
        key[rng.random(key.shape) < 0.1] = np.nan
    keys[0][0], keys[1][1], keys[2][2] = np.nan, np.nan, np.nan
    violations, scores, tie_breaks = (torch.from_numpy(key).to(device) for key in keys)
    actions = torch.randn(4, count, 2, 3, device=device)
    best, action = rank((scores, violations, tie_breaks), actions)
    expected = objectives.best_candidate(keys[1], keys[0], keys[2])
    assert np.array_equal(best, expected)
    reference = ranking_reference(scores, violations, tie_breaks).cpu().numpy()
    assert np.array_equal(reference, expected)
    assert torch.equal(action, actions[torch.arange(4), torch.from_numpy(best), 0])
