"""A diagnosis of a small random model in Hopper, and the parts that drive and continue it."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_models import random_model, random_spec, random_tensors

from dmpc_fast.backends import registry
from dmpc_fast.cli.main import main
from dmpc_fast.data.minari_writer import DatasetWriter
from dmpc_fast.evaluation.continuation import Continuation, continued_returns, discounted
from dmpc_fast.evaluation.diagnose import diagnose
from dmpc_fast.evaluation.diagnosis_plot import plot_diagnosis
from dmpc_fast.evaluation.environments import environment_action, make_environment
from dmpc_fast.evaluation.evaluate import evaluate
from dmpc_fast.evaluation.probe import WIDENING, probe, widened
from dmpc_fast.evaluation.starts import drive_for_starts, spread
from dmpc_fast.evaluation.truth import TrueFutures
from dmpc_fast.model_file import Model, save_model
from dmpc_fast.planning.planner import Planner

HOPPER: dict[str, Any] = {
    "state": 11, "action": 3, "control_period_s": 0.008, "history": 3, "horizon": 4,
}  # fmt: skip
FILE: dict[str, Any] = {**HOPPER, "recommended": {"num_samples": 4, "action_chunk": 2}}


@pytest.fixture
def model() -> Model:
    return random_model(np.random.default_rng(2), **FILE)


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(2)
    spec = random_spec(**FILE)
    save_model(tmp_path / "robot.safetensors", spec, random_tensors(rng, spec))
    return tmp_path / "robot.safetensors"


def test_starts_are_those_of_the_evaluated_episodes(model: Model, model_file: Path) -> None:
    engine = registry.create("cpu", model, threads=1)
    planner = Planner(model, engine, dtype="float32", num_robots=1, seed=5)
    environment = make_environment("Hopper-v5")
    truth = TrueFutures(environment)
    drives = drive_for_starts(
        planner, environment, truth, episodes=2, starts=5, seed=5, max_steps=30
    )
    result = evaluate(
        model_file, "Hopper-v5", episodes=2, seed=5, max_steps=30, backend="cpu", progress=False
    )
    assert drives.returns == pytest.approx(result.returns, rel=1e-4)
    assert drives.lengths == result.lengths.tolist()
    assert drives.terminated == result.terminated.tolist()
    assert [start.episode for start in drives.starts] == [0, 0, 1, 1, 1]
    assert drives.starts[0].step == 0 and drives.starts[0].at_rest
    assert all(start.step % planner.action_chunk == 0 for start in drives.starts)
    assert len(drives.plan_s) == sum(math.ceil(n / 2) for n in drives.lengths) - 1
    # From a kept state, the chosen actions lead to the state of the next plan.
    one, two = drives.starts[2:4]
    assert (one.step, two.step) == (0, 2) or two.step > 2
    plan = engine.plan(one.request)
    chosen = plan.actions[0, plan.best[0]]
    futures = truth.roll(one.physics, chosen[None, :2])
    assert np.isfinite(futures.states).all()
    environment.reset(seed=5 + one.episode)
    for action in chosen[:2]:
        state, *_ = environment.step(environment_action(environment, action))
    np.testing.assert_allclose(futures.states[0, -1], state, rtol=1e-5, atol=1e-5)
    environment.close()


@pytest.mark.parametrize(
    ("count", "wanted", "expected"),
    [(3, 5, [0, 1, 2]), (100, 1, [0]), (100, 6, [0, 1, 2, 34, 67, 99]), (4, 4, [0, 1, 2, 3])],
)
def test_plans_are_kept_from_the_beginning_and_all_over(
    count: int, wanted: int, expected: list[int]
) -> None:
    assert spread(count, wanted) == expected


def test_candidates_are_continued_by_the_proposal_alone(model: Model) -> None:
    engine = registry.create("cpu", model, threads=1)
    environment = make_environment("Hopper-v5")
    planner = Planner(model, engine, dtype="float32", num_robots=1)
    truth = TrueFutures(environment)
    drives = drive_for_starts(
        planner, environment, truth, episodes=1, starts=2, seed=1, max_steps=3
    )
    start = drives.starts[-1]
    plan = engine.plan(start.request)
    actions = plan.actions[0]
    futures = truth.roll(start.physics, actions)
    how = Continuation(steps=5, chunk=2, seed=77)
    spec = dataclasses.replace(model.spec, termination_penalty=100.0)
    got = continued_returns(engine, spec, truth, start.request, actions, futures, how)
    for index in range(len(actions)):
        past = np.concatenate([start.request.states[0], futures.states[index]])
        ran = np.concatenate([start.request.actions[0], actions[index]])
        physics, expected, step = futures.last.rows(np.array([index])), 0.0, 0
        going = bool(futures.going[index])
        while step < 5 and going:
            request = dataclasses.replace(
                start.request,
                states=past[None, -3:],
                actions=ran[None, -2:],
                mask=np.ones((1, 2), np.float32),
                seed=77,
                robots=np.zeros(1, np.int64),
                plan_index=np.array([step]),
                groups=(dataclasses.replace(start.request.groups[0], count=1),),
            )
            chunk = engine.sample(request)[0, :, : min(2, 5 - step)]
            following = truth.roll(physics, chunk)
            expected += spec.discount**step * discounted(spec, following).total[0]
            past = np.concatenate([past, following.states[0]])
            ran = np.concatenate([ran, chunk[0]])
            physics, going = following.last, bool(following.going[0])
            step += chunk.shape[1]
        assert got[index] == pytest.approx(expected, rel=1e-3, abs=1e-3)
    environment.close()


def test_true_rewards_and_penalties_are_discounted(model: Model) -> None:
    environment = make_environment("Hopper-v5")
    environment.reset(seed=0)
    truth = TrueFutures(environment)
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 60, 3))
    futures = truth.roll(truth.now(), actions)
    parts = discounted(model.spec, futures)
    assert futures.terminated.any() and (~futures.going).sum() > 5
    for index in range(20):
        powers = model.spec.discount ** np.arange(60)
        assert parts.reward[index] == pytest.approx(futures.rewards[index] @ powers)
        end = int(np.argmax(futures.terminated[index]))
        penalty = 0.0 if futures.going[index] else model.spec.termination_penalty * powers[end]
        assert parts.termination[index] == pytest.approx(-penalty)
    environment.close()


def test_a_probe_holds_the_planners_own_candidates_first(model: Model) -> None:
    engine = registry.create("cpu", model, threads=1)
    environment = make_environment("Hopper-v5")
    planner = Planner(model, engine, dtype="float32", num_robots=1)
    truth = TrueFutures(environment)
    drives = drive_for_starts(
        planner, environment, truth, episodes=1, starts=1, seed=3, max_steps=3
    )
    start = drives.starts[0]
    found = probe(
        engine,
        model.spec,
        truth,
        start,
        candidates=9,
        continuations=(Continuation(3, 2, 1), Continuation(3, 2, 2)),
    )
    plan = engine.plan(start.request)
    np.testing.assert_allclose(found.actions[:4], plan.actions[0], atol=1e-5)
    np.testing.assert_allclose(found.predicted[:4], plan.states[0], atol=1e-4)
    np.testing.assert_allclose(found.by_predicted.total[:4], plan.scores[0], rtol=1e-4, atol=1e-4)
    total, *parts = found.by_true
    np.testing.assert_allclose(np.sum(parts, axis=0), total, rtol=1e-4, atol=1e-4)
    # The first chunk, then the continuation's proposals for the rest of as many steps.
    first = truth.roll(start.physics, found.actions[:, :2])
    how = Continuation(3 + 2, 2, 1)
    arguments = engine, model.spec, truth, start.request, found.actions[:, :2], first, how
    expected = discounted(model.spec, first).total
    expected += model.spec.discount**2 * continued_returns(*arguments)
    np.testing.assert_allclose(found.executed_returns[0], expected, rtol=1e-4, atol=1e-4)
    assert found.returns.shape == (2, 9) and found.wide_returns.shape == (2, 4)
    assert not np.array_equal(found.continued[0], found.continued[1])
    moved = widened(model.spec, found.actions)
    centre = found.actions.mean(0)
    inside = (np.abs(moved) < 0.8).all(axis=(0, 1))
    expected = (centre + WIDENING * (found.actions - centre))[..., inside]
    np.testing.assert_allclose(moved[..., inside], expected, rtol=1e-5, atol=1e-5)
    assert np.abs(moved[..., 0]).max() <= np.float32(0.8)
    environment.close()


def test_a_diagnosis_says_how_sure_it_is(model_file: Path) -> None:
    options: dict[str, Any] = {
        "episodes": 2, "starts": 4, "candidates": 8, "continuation": 3, "backend": "cpu",
        "threads": 1, "max_steps": 30, "progress": False,
    }  # fmt: skip
    result = diagnose(model_file, "Hopper-v5", **options)
    report = json.loads(result.to_json())
    assert report["settings"]["num_samples"] == 4 and len(report["settings"]["starts"]) == 4
    assert report["choice"]["counts"] == [1, 4, 8]
    assert len(report["dynamics"]["executed"]) == 4
    assert len(report["dynamics"]["by_dimension"]) == 11
    assert set(report["verdict"]) <= {"all", "at_rest", "running"}
    assert report["verdict"]["all"]["starts"] == 4
    text = "\n".join(result.lines())
    assert "diffusion dynamics badly trained" in text and "sampling too slow" in text
    again = diagnose(model_file, "Hopper-v5", **options)
    assert again.report["choice"] == result.report["choice"]


def test_wrong_options_are_refused(model_file: Path) -> None:
    for options, message in (
        ({"candidates": 3}, r"at least num_samples \(4\)"),
        ({"continuation": 0}, "continuation at least 1"),
        ({"starts": 1, "episodes": 2}, "starts one each, got 2 and 1"),
        ({"env_id": "Walker2d-v5"}, "observations of size 17"),
    ):
        arguments = {"env_id": "Hopper-v5", "backend": "cpu", "progress": False, **options}
        with pytest.raises(ValueError, match=message):
            diagnose(model_file, **arguments)


def test_the_command_writes_a_table_a_figure_and_json(
    model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = make_environment("Hopper-v5")
    rng = np.random.default_rng(0)
    with DatasetWriter("my/hopper/tiny-v0", environment, metadata={}) as writer:
        for _ in range(2):
            writer.add(
                rng.normal(size=(31, 11)).astype(np.float64),
                rng.uniform(-1, 1, (30, 3)).astype(np.float32),
                rng.normal(size=30).astype(np.float32),
                terminated=False,
                seed=0,
            )
    out = tmp_path / "findings"
    words = "--env Hopper-v5 --episodes 1 --starts 3 --candidates 4 --continuation 2 --threads 1"
    more = ["--backend", "cpu", "--max-steps", "12", "--no-progress", "--out", str(out)]
    data = ["--dataset", "my/hopper/tiny-v0"]
    assert main(["diagnose", str(model_file), *words.split(), *more, *data]) == 0
    printed = capsys.readouterr().out
    assert "true return lost by" in printed and "wrote" in printed
    assert sorted(path.name for path in out.iterdir()) == ["diagnosis.json", "diagnosis.png"]
    report = json.loads((out / "diagnosis.json").read_text())
    assert len(report["diversity"]["relative_to_nearby_data"]) == 3
    plot_diagnosis(tmp_path / "again.svg", report)
    assert (tmp_path / "again.svg").stat().st_size > 1000
    assert main(["diagnose", str(model_file), *words.split(), "--json", "no/such/x.json"]) == 2
    assert "does not exist" in capsys.readouterr().err
