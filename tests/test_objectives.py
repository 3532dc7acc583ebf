"""Objectives against plain loops over their definitions, in NumPy and torch."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from dmpc_fast import objectives
from dmpc_fast.objectives import (
    ActionCost,
    Alive,
    GaussianTarget,
    LearnedReward,
    LearnedValue,
    QuadraticTarget,
    Speed,
    StateBound,
)

DISCOUNT, PENALTY = 0.9, 4.0
ALL_TERMS = (
    LearnedReward(0.7),
    LearnedValue(1.3),
    Alive(0.4),
    GaussianTarget(0, 0.5, 0.8, 2.0),
    GaussianTarget(1, -0.3, 0.5, -1.5),
    QuadraticTarget(2, 0.2, 0.6),
    Speed(1, 1.0, 0.3),
    ActionCost(0.1),
    StateBound(0, low=-0.4, high=0.6),
    StateBound(2, high=0.1),
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


def trajectories(rng: np.random.Generator, members: int = 2) -> tuple:
    states, actions = rng.normal(size=(3, 4, 5, 3)), rng.normal(size=(3, 4, 5, 2))
    learned = objectives.Learned(
        rng.normal(size=(members, 3, 4, 5)),
        np.log(rng.uniform(0.3, 1.0, size=(members, 3, 4, 5))),
        rng.normal(size=(members, 3, 4)),
    )
    return states, actions, learned


def by_hand(terms: tuple, states: np.ndarray, actions: np.ndarray, learned: tuple) -> tuple:
    """Score, violation and Gaussian part of one candidate: (F, S), (F, A), rewards (F,), ..."""
    rewards, continues, value = learned
    score = violation = gaussians = 0.0
    reached, discount = 1.0, 1.0
    for k in range(len(states)):
        for term in terms:
            rate = 0.0
            if isinstance(term, LearnedReward):
                rate = rewards[k]
            elif isinstance(term, Alive):
                rate = -PENALTY * (1 - continues[k])
            elif isinstance(term, GaussianTarget):
                rate = math.exp(-((states[k, term.index] - term.target) ** 2) / 2 / term.variance)
                gaussians += discount * reached * term.weight * rate * (term.weight > 0)
            elif isinstance(term, QuadraticTarget):
                rate = -((states[k, term.index] - term.target) ** 2)
            elif isinstance(term, Speed):
                rate = -abs(states[k, term.index] - term.target)
            elif isinstance(term, ActionCost):
                rate = -sum(a * a for a in actions[k])
            elif isinstance(term, StateBound):
                s = states[k, term.index]
                violation += max(0.0, (-math.inf if term.low is None else term.low) - s)
                violation += max(0.0, s - (math.inf if term.high is None else term.high))
                continue
            else:
                continue
            score += discount * reached * term.weight * rate
        reached, discount = reached * continues[k], discount * DISCOUNT
    for term in terms:
        if isinstance(term, LearnedValue):
            score += discount * reached * term.weight * value
    return score, violation, gaussians


def evaluate(terms: tuple | None, states: np.ndarray, actions: np.ndarray, learned: tuple | None):
    return objectives.evaluate(
        terms,
        states,
        actions,
        discounts=objectives.discount_powers(DISCOUNT, states.shape[-2]),
        penalty=PENALTY,
        learned=learned,
    )


@pytest.mark.parametrize(
    "terms",
    [*((term,) for term in ALL_TERMS), ALL_TERMS, None],
    ids=lambda terms: "+".join(type(t).__name__ for t in terms) if terms else "None",
)
def test_evaluation_is_its_definition(terms: tuple | None, rng: np.random.Generator) -> None:
    states, actions, learned = trajectories(rng)
    result = evaluate(terms, states, actions, learned)
    own = objectives.LEARNED_OBJECTIVE if terms is None else terms
    ones = np.ones_like(learned.reward[0, 0, 0])
    for robot, candidate in np.ndindex(3, 4):
        parts = [
            by_hand(
                own,
                states[robot, candidate],
                actions[robot, candidate],
                (
                    learned.reward[m, robot, candidate],
                    np.exp(learned.log_continue[m, robot, candidate])
                    if objectives.needs_learned(terms)
                    else ones,
                    learned.value[m, robot, candidate],
                ),
            )
            for m in range(2)
        ]
        score, violation, _ = np.mean(parts, axis=0)
        assert result.scores[robot, candidate] == pytest.approx(score, rel=1e-12)
        assert result.violations[robot, candidate] == pytest.approx(violation, rel=1e-12)


def test_tie_break_is_the_logarithm_of_the_gaussian_part(rng: np.random.Generator) -> None:
    states, actions, learned = trajectories(rng, members=1)
    terms = (LearnedReward(), GaussianTarget(0, 0.2, 0.7, 3.0), GaussianTarget(1, 0.0, 0.4, 0.5))
    result = evaluate(terms, states, actions, learned)
    continues = np.exp(learned.log_continue[0])
    for index in np.ndindex(3, 4):
        parts = (learned.reward[(0, *index)], continues[index], learned.value[(0, *index)])
        gaussians = by_hand(terms, states[index], actions[index], parts)[2]
        assert result.tie_breaks[index] == pytest.approx(math.log(gaussians), abs=1e-12)


def test_tie_break_ranks_candidates_whose_scores_underflow() -> None:
    states = np.linspace(0.0, 1.0, 6)[:, None, None] * np.ones((6, 4, 1))
    actions = np.zeros((6, 4, 1))
    for weight, best in ((5.0, 5), (-5.0, 0)):
        result = evaluate((GaussianTarget(0, 30.0, 5e-4, weight),), states, actions, None)
        assert np.all(result.scores == 0)
        assert np.isfinite(result.tie_breaks).all()
        assert objectives.best_candidate(*result) == best


def test_no_gaussian_term_gives_no_tie_break(rng: np.random.Generator) -> None:
    states, actions, learned = trajectories(rng)
    assert np.all(evaluate(None, states, actions, learned).tie_breaks == 0)


def test_numpy_and_torch_agree(rng: np.random.Generator) -> None:
    states, actions, learned = trajectories(rng)
    expected = evaluate(ALL_TERMS, states, actions, learned)
    result = objectives.evaluate(
        ALL_TERMS,
        torch.from_numpy(states),
        torch.from_numpy(actions),
        discounts=torch.from_numpy(objectives.discount_powers(DISCOUNT, 5)),
        penalty=PENALTY,
        learned=objectives.Learned(*map(torch.from_numpy, learned)),
        xp=torch,
    )
    for ours, theirs in zip(expected, result, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12)


def test_learned_terms_need_predictions(rng: np.random.Generator) -> None:
    states, actions, _ = trajectories(rng)
    with pytest.raises(ValueError, match="learned predictions"):
        evaluate((Alive(),), states, actions, None)


def test_ranking_is_lexicographic() -> None:
    violations = np.array([[1.0, 0.0, 0.0, 0.0], [2.0, 1.0, 3.0, 1.0]])
    scores = np.array([[9.0, 5.0, 5.0, 4.0], [0.0, -1.0, 9.0, -1.0]])
    tie_breaks = np.array([[0.0, -7.0, -6.0, 9.0], [0.0, 2.0, 0.0, 2.0]])
    assert objectives.best_candidate(scores, violations, tie_breaks).tolist() == [2, 1]
    scores[0, 2] = np.nan
    assert objectives.best_candidate(scores, violations, tie_breaks)[0] == 1


def test_terms_survive_json() -> None:
    data = json.loads(json.dumps(objectives.to_json(ALL_TERMS)))
    assert objectives.from_json(data) == ALL_TERMS
    assert objectives.from_json(objectives.to_json(None)) is None


@pytest.mark.parametrize("data", [{}, 3, [3], [{"term": "Cost"}], [{"term": "Speed"}]])
def test_json_of_no_term_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match="term"):
        objectives.from_json(data)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianTarget(0, 1.0, 0.0), "variance must be positive, got 0.0"),
        (lambda: GaussianTarget(0, math.nan, 1.0), "target must be a finite number, got nan"),
        (lambda: Speed(-1, 1.0), "index must be an integer from 0 on, got -1"),
        (lambda: Speed(True, 1.0), "index must be an integer"),
        (lambda: QuadraticTarget(0, "1"), "target must be a finite number, got '1'"),
        (lambda: ActionCost(math.inf), "weight must be a finite number, got inf"),
        (lambda: StateBound(0), "low, high or both"),
        (lambda: StateBound(0, 2.0, 1.0), "low <= high, got 2.0 and 1.0"),
    ],
)
def test_wrong_arguments_are_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_lists_are_checked_against_the_state() -> None:
    assert objectives.validate([Speed(2, 1)], 3) == (Speed(2, 1.0),)
    assert objectives.validate(None, 3) is None
    with pytest.raises(ValueError, match="index must be below the state size 3"):
        objectives.validate([Speed(3, 1.0)], 3)
    with pytest.raises(ValueError, match="at least one term"):
        objectives.validate([], 3)
    with pytest.raises(TypeError, match="terms must be of"):
        objectives.validate([1.0], 3)
    with pytest.raises(TypeError, match="list of terms"):
        objectives.validate(Speed(2, 1.0), 3)
