"""Faults that are built into made-up candidates are found, and priced at what they cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from probes import made_up_probe, parts

from dmpc_fast.evaluation.calibration import (
    best_of_blocks,
    chosen_return,
    gain_curves,
    oracle_return,
    rank_correlations,
    sample_counts,
)
from dmpc_fast.evaluation.dynamics_error import unresolved_share
from dmpc_fast.evaluation.probe import Probe
from dmpc_fast.evaluation.verdict import verdict

QUICK: dict[str, Any] = {
    "samples": 16, "scale": np.ones(4), "period_s": 0.02, "plan_p99_s": 0.01,
}  # fmt: skip
LATE = {**QUICK, "plan_p99_s": 0.07}


def faulty(fault: str) -> list[Probe]:
    """Twenty starts of which only `fault` is wrong."""
    rng = np.random.default_rng(len(fault))
    found = []
    for _ in range(20):
        returns = np.tile(rng.normal(50, 5, 32), (2, 1))
        right, noise = parts(returns[0].copy()), parts(rng.normal(size=32))
        wrong_objective = fault in ("reward", "value")
        changes: dict[str, Any] = {
            "returns": returns,
            "wide_returns": returns[:, :16] + (20 if fault == "diversity" else 0),
            "by_predicted": noise if wrong_objective or fault == "dynamics" else right,
            "by_true": noise if wrong_objective else right,
            "with_value": noise.total if fault == "value" else right.total,
        }
        found.append(made_up_probe(rng, **changes))
    return found


@pytest.mark.parametrize("fault", ["dynamics", "reward", "value", "diversity", "nothing"])
def test_a_fault_is_found(fault: str) -> None:
    report = verdict(faulty(fault), **QUICK)
    limits = {"reward": ["objective"], "value": ["objective"], "nothing": []}.get(fault, [fault])
    assert report["limits"] == limits
    # The best of 16 draws of a normal lies 1.77 standard deviations above the mean.
    expected = {"diversity": 20.0, "nothing": 0.0}.get(fault, 1.77 * 5)
    costs = report["costs"]
    if fault != "nothing":
        assert costs[fault]["mean"] == pytest.approx(expected, abs=3)
        assert costs[fault]["counts"]
    for other in {"dynamics", "reward", "value", "diversity"} - {fault}:
        assert costs[other]["mean"] == pytest.approx(0, abs=1e-9) and not costs[other]["counts"]
    assert report["oracle"] - report["random_candidate"] == pytest.approx(1.77 * 5, abs=3)
    assert ("no cost counts" in report["text"]) == (not limits)


def test_slow_plans_are_named_and_priced() -> None:
    report = verdict(faulty("nothing"), **LATE)
    assert report["affordable_samples"] == 4 and report["limits"] == ["time"]
    # The best of 4 draws lies 1.03 standard deviations above the mean.
    assert report["costs"]["time"]["mean"] == pytest.approx((1.77 - 1.03) * 5, abs=2)
    # Where fewer candidates do as well, slowness is named all the same.
    useless = verdict(faulty("value"), **LATE)
    assert useless["limits"] == ["objective", "time"] and not useless["costs"]["time"]["counts"]
    assert "(its cost does not count; the control period suffices for 4 cand" in useless["text"]


def test_what_is_executed_is_told_from_the_whole_candidate() -> None:
    rng = np.random.default_rng(11)
    probes = []
    for _ in range(20):
        first = np.tile(rng.normal(7, 2, 32), (2, 1))
        probes.append(made_up_probe(rng, executed_returns=first, by_predicted=parts(first[0])))
    executed = verdict(probes, **QUICK)["executed"]
    assert executed["random_candidate"] == pytest.approx(7, abs=0.5)
    assert executed["gain_of_predicted"] == executed["gain_of_oracle"]
    assert executed["gain_of_oracle"]["mean"] == pytest.approx(1.77 * 2, abs=0.8)
    assert executed["gain_of_true_states"]["mean"] == pytest.approx(0, abs=1.5)


def test_dynamics_that_cannot_tell_candidates_apart_are_named() -> None:
    probes = faulty("value")
    rng = np.random.default_rng(9)
    for probe in probes:
        assert unresolved_share(probe, np.ones(4)) == pytest.approx(0.1, abs=0.02)
        probe.predicted[:] = probe.true + 3.0 + 0.8 * rng.normal(size=probe.true.shape)
    report = verdict(probes, **QUICK)
    assert report["unresolved"] == pytest.approx(0.8, abs=0.05)
    assert report["limits"] == ["objective", "dynamics"]
    assert "80 % of the candidates' differences wrong" in report["text"].replace("79", "80")
    for probe in probes:
        probe.true[:] = 1.0
    assert verdict(probes, **QUICK)["limits"] == ["objective"]


def test_few_starts_prove_nothing() -> None:
    assert verdict(faulty("dynamics")[:1], **QUICK)["limits"] == []


def test_the_oracle_is_not_paid_for_luck() -> None:
    luck = np.random.default_rng(3).normal(size=(2, 4096))
    assert abs(oracle_return(luck, 64)) < 0.5 and best_of_blocks(luck[0], luck[0], 64) > 2


def test_a_choice_is_made_within_each_block() -> None:
    by, paid = np.array([1.0, 3, 2, 0, 5, 9]), np.array([10.0, 20, 30, 40, 50, 60])
    assert best_of_blocks(by, paid, 2) == pytest.approx((20 + 30 + 60) / 3)
    assert best_of_blocks(by, paid, 4) == 20  # the last two fill no block
    assert best_of_blocks(by, paid, 1) == 35
    with pytest.raises(ValueError, match="blocks of 7 need as many candidates, got 6"):
        best_of_blocks(by, paid, 7)
    assert sample_counts(256) == [1, 4, 16, 64, 256] and sample_counts(20) == [1, 4, 16, 20]
    assert sample_counts(1) == [1]


def test_gain_curves_have_a_row_for_each_start() -> None:
    probes = faulty("dynamics")[:3]
    curves = gain_curves(probes, [1, 8])
    for choice, curve in curves.items():
        assert curve.shape == (3, 2)
        assert curve[1, 1] == chosen_return(probes[1], choice, 8)
        assert curve[:, 0] == pytest.approx([probe.returns.mean() for probe in probes])


def test_ranks_that_do_not_exist_are_not_numbers() -> None:
    rng = np.random.default_rng(5)
    ranks = rank_correlations(made_up_probe(rng))
    assert np.isnan(ranks["termination"])  # no candidate ended
    assert ranks["repeatability"] == pytest.approx(1)
    assert -0.6 < ranks["J_predicted_with_return"] < 0.6
    ended = rank_correlations(made_up_probe(rng, going=np.zeros(32, bool)))
    assert np.isnan(ended["value"]) and not np.isnan(ended["reward"])
