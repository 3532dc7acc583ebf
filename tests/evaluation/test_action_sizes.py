"""Gaits found by search, their data, and what the best of N is worth with many actions."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from dmpc_fast.cli.main import main
from dmpc_fast.data.minari import load_episodes
from dmpc_fast.evaluation import ant
from dmpc_fast.evaluation.best_of import best_of_curve
from dmpc_fast.evaluation.environments import make_environment
from dmpc_fast.evaluation.gaits import Gait, collect_gaits, search_gaits


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_an_ant_is_gymnasiums_but_for_what_it_sees() -> None:
    ours = make_environment(ant.TASK)
    theirs = gymnasium.make("Ant-v5", contact_cost_weight=0.0, disable_env_checker=True)
    first, other = ours.reset(seed=4)[0], theirs.reset(seed=4)[0]
    rng = np.random.default_rng(5)
    gained = np.zeros(2)
    for _ in range(50):
        np.testing.assert_array_equal(first, other[:27])
        action = rng.uniform(-1, 1, 8).astype(np.float32)
        first, reward, *_ = ours.step(action)
        other, theirs_reward, *_ = theirs.step(action)
        gained += reward, theirs_reward
    # Speeds are measured at other moments, which evens out.
    assert gained[0] == pytest.approx(gained[1], abs=0.5)
    ours.close()
    theirs.close()


def test_gaits_get_better_and_make_a_dataset() -> None:
    found = search_gaits(ant.TASK, rounds=3, steps=20, seed=2)
    assert max(score for _, score in found[1:]) > found[0][1] - 1e-9
    gaits = [gait for gait, _ in found]
    returns = collect_gaits(
        ant.TASK, "test/ant/gaits-v0", lambda: gaits, episodes=5, max_steps=9, seed=3
    )
    store = load_episodes(["test/ant/gaits-v0"], progress=False)
    assert (store.num_episodes, store.observations.shape[1], store.actions.shape[1]) == (5, 27, 8)
    assert store.environment.control_period_s == pytest.approx(0.05)
    sums = [float(store.rewards[a:b].sum()) for a, b in itertools.pairwise(store.offsets)]
    np.testing.assert_allclose(sums, returns, rtol=1e-5)
    with pytest.raises(FileExistsError):
        collect_gaits(ant.TASK, "test/ant/gaits-v0", lambda: 1 / 0, episodes=1, max_steps=2, seed=3)


def test_a_gait_is_periodic_and_bounded() -> None:
    rng = np.random.default_rng(6)
    gait = Gait.from_vector(2 * rng.standard_normal(1 + 3 * 4))
    space = gymnasium.spaces.Box(np.float32([-2, -1, 0, -0.4]), np.float32([1, 1, 3, 0.4]))
    times = np.linspace(0, 1, 37)
    commands = gait.commands(space, times)
    np.testing.assert_allclose(
        commands, gait.commands(space, times + 1 / gait.frequency_hz), atol=1e-5
    )
    assert (commands >= space.low).all() and (commands <= space.high).all()


def test_more_members_gain_less_of_what_could_be_found() -> None:
    rng = np.random.default_rng(7)
    scores = rng.normal(size=(20, 300))
    baseline, reference = scores.mean(1), np.full(20, 6.0)

    def curve(members: int) -> list[float]:
        return best_of_curve(
            scores, baseline, reference, members=members, counts=(1, 16, 256),
            rng=np.random.default_rng(8),
        )  # fmt: skip

    one, many = curve(1), curve(9)
    assert abs(one[0]) < 0.05 and one == sorted(one)
    # The best of N sums of m is sqrt(m) deviations up where m single searches are m of them up.
    assert many[2] == pytest.approx(one[2] / 3, rel=0.2)
    with pytest.raises(ValueError, match="at most 300"):
        best_of_curve(
            scores, baseline, reference, members=1, counts=(301,), rng=np.random.default_rng(9)
        )
    with pytest.raises(ValueError, match="above the baseline"):
        best_of_curve(scores, reference, baseline, members=1, counts=(1,), rng=rng)


def test_the_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpc_fast.evaluation.best_of.REFERENCE_ROUNDS", 2)
    command = "experiment action-sizes --quick --train-steps 2 --max-steps 9 --seed 3 --threads 1"
    command = [*command.split(), "--backend", "cpu", "--no-progress", "--out", "r"]
    assert main(command) == 0
    folder = tmp_path / "r" / "action-sizes"
    row = json.loads((folder / "ant-best-of.json").read_text(encoding="utf-8"))["result"]
    assert list(row["proposal"]) == ["8", "16", "32", "64"] and row["counts"] == [1, 4, 16]
    assert all(len(shares) == 3 for shares in (*row["proposal"].values(), row["uniform"]))
    table = (folder / "table.md").read_text(encoding="utf-8")
    for name in ("| hopper, uniform | 3 |", "| 8 x ant | 64 |", "| ant-oracle-4 |", "| ant-data |"):
        assert name in table
    monkeypatch.setattr("dmpc_fast.evaluation.experiments.action_sizes._best_of", lambda *_: 1 / 0)
    monkeypatch.setattr("dmpc_fast.training.api.train", lambda *_, **__: 1 / 0)
    assert main(command) == 0
