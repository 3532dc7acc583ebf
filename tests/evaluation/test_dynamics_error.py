"""Errors by step and spread of proposals, against figures that can be worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from probes import made_up_probe

from dmpc_fast.data.episodes import EpisodeStore
from dmpc_fast.evaluation.diversity import NEIGHBOURS, action_spread, nearby_action_std
from dmpc_fast.evaluation.dynamics_error import dynamics_errors, quartiles
from dmpc_fast.spec import EnvironmentSpec

SCALE = np.array([1.0, 2.0, 0.5, 4.0])


def test_a_known_error_is_measured_in_standard_deviations() -> None:
    rng = np.random.default_rng(0)
    probe = made_up_probe(rng)
    shift = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    signs = rng.choice([-1, 1], (32, 1, 1))
    shared = made_up_probe(rng, predicted=probe.true + shift[:, None] * SCALE, true=probe.true)
    own = made_up_probe(rng, predicted=probe.true + signs * SCALE, true=probe.true)
    report = dynamics_errors([shared] * 3, SCALE, samples=8)
    for step in range(5):
        assert report["executed"][step] == pytest.approx([shift[step]] * 3)
        assert report["candidates"][step] == pytest.approx([shift[step]] * 3)
        # An error that all candidates share leaves their differences right.
        assert report["difference"][step] == pytest.approx([0] * 3, abs=1e-9)
    assert report["by_dimension"] == pytest.approx([0.5] * 4)
    different = dynamics_errors([own], SCALE, samples=8)
    expected = np.sqrt(1 - signs.mean() ** 2)
    assert different["difference"][2] == pytest.approx([expected] * 3)
    spread = np.sqrt(np.square((probe.true - probe.true.mean(0)) / SCALE).mean((0, 2)))
    assert different["spread"][4][1] == pytest.approx(spread[4])


def test_what_follows_an_end_does_not_count() -> None:
    rng = np.random.default_rng(1)
    over = np.zeros((32, 5), bool)
    over[:, 3:] = True
    probe = made_up_probe(rng, over=over)
    probe.predicted[:, 3:] = 1e9
    report = dynamics_errors([probe], SCALE, samples=4)
    for name in ("executed", "unchanged", "candidates", "spread", "difference"):
        assert report[name][3:] == [None, None] and all(report[name][:3])
    assert max(report["by_dimension"]) < 2
    assert quartiles([np.array([1.0, np.nan]), np.array([3.0, np.nan])]) == [[1.5, 2, 2.5], None]


def test_the_chosen_candidate_is_one_of_the_planners_own() -> None:
    probe = made_up_probe(np.random.default_rng(2))
    best = int(probe.by_predicted.total[:8].argmax())
    report = dynamics_errors([probe], SCALE, samples=8)
    error = (probe.predicted - probe.true)[best] / SCALE
    assert report["executed"][0][1] == pytest.approx(np.sqrt(np.square(error[0]).mean()))


def environment() -> EnvironmentSpec:
    return EnvironmentSpec(None, None, (-1.0, None), (1.0, 0.5), 0.02)


def test_spread_and_clipping_of_proposals() -> None:
    rng = np.random.default_rng(3)
    actions = np.clip(rng.normal(0, [0.1, 0.2], (5000, 5, 2)), -1, 1)
    actions[:1250, :, 0] = 1.0
    actions[1250:2500, :, 1] = 0.5
    probe = made_up_probe(rng, count=5000, actions=actions)
    nearby = np.array([[0.5, 0.0]])
    report = action_spread([probe], environment(), np.array([1.0, 2.0]), nearby)
    assert report["clipped"] == pytest.approx(0.25, abs=0.01)
    std = actions[:, 0].std(0)
    assert report["first_action"] == pytest.approx(std)
    assert report["relative_to_all_data"] == pytest.approx(std / [1.0, 2.0])
    assert report["relative_to_nearby_data"] == pytest.approx(std / [0.5, 2e-6])
    assert report["plan"] == pytest.approx(actions.std(0).mean(0))
    without = action_spread([probe], environment(), np.array([1.0, 2.0]), None)
    assert without["relative_to_nearby_data"] is None


def test_the_spread_near_a_state_is_that_of_its_neighbours(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    lengths = np.array([NEIGHBOURS, NEIGHBOURS])
    # Two episodes, each near its own place; the states after the last actions lie far off.
    observations = np.concatenate(
        [np.r_[rng.normal(place, 0.1, (NEIGHBOURS, 2)), [[99.0, 99.0]]] for place in (0, 10)]
    ).astype(np.float32)
    actions = rng.normal(0, np.repeat([0.1, 2.0], lengths)[:, None], (lengths.sum(), 3))
    store = EpisodeStore(
        observations=observations,
        actions=actions.astype(np.float32),
        rewards=np.zeros(lengths.sum(), np.float32),
        terminations=np.zeros(2, bool),
        offsets=np.r_[0, lengths.cumsum()],
        dataset_ids=("near-and-far",),
        score_range=None,
        environment=environment(),
    )
    found = nearby_action_std(store, np.array([[0.0, 0], [10, 10]]), np.ones(2))
    expected = [actions[:NEIGHBOURS].std(0), actions[NEIGHBOURS:].std(0)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
