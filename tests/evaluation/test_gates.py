"""The gates' figures on made-up samples, and the command on a small random model."""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from point_robot import ID, PERIOD_S
from random_models import random_spec, random_tensors
from scipy import stats

from dmpc_fast.backends import registry
from dmpc_fast.cli.main import main
from dmpc_fast.data.minari import load_episodes
from dmpc_fast.data.minari_writer import DatasetWriter
from dmpc_fast.data.windows import Windows, split_episodes
from dmpc_fast.evaluation import gates_measures as measures
from dmpc_fast.evaluation.environments import make_environment
from dmpc_fast.evaluation.gates import gates
from dmpc_fast.evaluation.gates_bounds import BOUNDS, Gate
from dmpc_fast.evaluation.gates_measures import Figure
from dmpc_fast.evaluation.gates_plot import plot_gates
from dmpc_fast.evaluation.gates_samples import (
    Contestant,
    Samples,
    draw_samples,
    held_out_episodes,
    open_loop_errors,
    whole_windows,
)
from dmpc_fast.model_file import load_model, save_model
from dmpc_fast.spec import ModelSpec, SamplerSpec
from dmpc_fast.statistics import Interval

DATA = "my/point/tiny-v0"
SPEC: dict[str, Any] = {
    "state": 4, "action": 2, "horizon": 5, "history": 2, "control_period_s": PERIOD_S,
}  # fmt: skip
QUICK: dict[str, Any] = {"backend": "cpu", "threads": 1, "progress": False}
MADE = {"datasets": [DATA], "training": {"validation_fraction": 0.3, "seed": 3}}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    with DatasetWriter(DATA, make_environment(ID), metadata={}) as writer:
        for steps in (4, 9, 12, 7, 11, 12):
            writer.add(
                rng.normal(size=(steps + 1, 4)),
                rng.uniform(-1, 1, (steps, 2)).astype(np.float32),
                rng.normal(size=steps).astype(np.float32),
                terminated=False,
                seed=0,
            )
    return DATA


def model_file(path: Path, spec: ModelSpec, seed: int = 1) -> Path:
    save_model(path, spec, random_tensors(np.random.default_rng(seed), spec))
    return path


def noise(rng: np.random.Generator, spread: float = 1.0, states: int = 30) -> np.ndarray:
    return spread * rng.normal(size=(states, 50, 4, 2))


def test_paired_noise_tells_a_copy_from_the_mean_and_from_chance(rng: np.random.Generator) -> None:
    teacher, other = noise(rng), noise(rng)
    for student, expected in ((teacher, 0.0), (0 * teacher, math.sqrt(0.5)), (noise(rng), 1.0)):
        figure = measures.paired_noise(student, teacher, other)
        assert figure.value.estimate == pytest.approx(expected, abs=0.03)
        assert figure.value.low <= figure.value.estimate <= figure.value.high


def test_variance_ratios_are_within_states_and_per_dimension(rng: np.random.Generator) -> None:
    teacher, other = noise(rng), noise(rng)
    offsets = 5 * rng.normal(size=(30, 1, 1, 2))  # what states differ by is no variance
    student = teacher * [0.5, 2.0] + offsets
    ratios = measures.variance_ratios(student, teacher, other)
    assert [ratio.value.estimate for ratio in ratios] == pytest.approx([0.25, 4.0])
    assert [ratio.split for ratio in ratios] == pytest.approx([1, 1], abs=0.1)
    pooled = measures.pooled_variance_ratio(student, teacher, other)
    assert pooled.value.estimate == pytest.approx(2.125, rel=0.1)


def test_distances_are_about_one_for_one_distribution(rng: np.random.Generator) -> None:
    # Over so many states the standard deviation of a ratio is 0.014 (energy) and 0.021 (MMD).
    parts = [noise(rng, states=300) for _ in range(3)]
    same = measures.distribution_distances(*parts)
    wide = measures.distribution_distances(3 * parts[0], *parts[1:])
    for name in ("energy_distance", "mmd"):
        assert same[name].value.estimate == pytest.approx(1, abs=0.15)
        assert wide[name].value.estimate > 1.5


def test_best_of_is_the_mean_over_all_subsets(rng: np.random.Generator) -> None:
    scores = rng.normal(size=(2, 7))
    counts = [1, 2, 3, 6, 7]
    expected = [
        [np.mean([max(chosen) for chosen in combinations(row, count)]) for count in counts]
        for row in scores
    ]
    np.testing.assert_allclose(measures.best_of(scores, counts), expected)
    assert measures.sample_counts(6) == [1, 2, 4, 6]
    assert measures.sample_counts(8) == [1, 2, 4, 8]


def test_the_slope_of_best_of_n_is_that_of_scipy(rng: np.random.Generator) -> None:
    counts = measures.sample_counts(64)
    student, teacher, other = (rng.normal(size=(5, 64)) for _ in range(3))
    student = 3 * student + 10
    figure = measures.best_of_n_slope(student, teacher, other, counts)
    slopes = [
        stats.linregress(np.log2(counts), measures.best_of(scores, counts).mean(0)).slope
        for scores in (student, teacher, other)
    ]
    assert figure.value.estimate == pytest.approx(slopes[0] / slopes[1])
    assert figure.split == pytest.approx(slopes[2] / slopes[1])


def made_up_samples(rng: np.random.Generator, **changes: Any) -> Samples:
    truth = 5 * rng.normal(size=(6, 40))
    fields = {field.name: truth for field in dataclasses.fields(Samples)}
    return Samples(**{**fields, **changes})


def test_rank_agreement_is_relative_to_the_split(rng: np.random.Generator) -> None:
    samples = made_up_samples(rng, other_scores=rng.normal(size=(6, 40)))
    truth = samples.other_scores
    close, far = truth + 0.1 * rng.normal(size=truth.shape), truth + rng.normal(size=truth.shape)
    samples = made_up_samples(rng, other_scores=truth, teacher_scores=close, student_scores=far)
    figure, own, split = measures.rank_agreement(samples)
    for found, scores in ((own, far), (split, close)):
        expected = [stats.spearmanr(a, b).statistic for a, b in zip(truth, scores, strict=True)]
        assert found == pytest.approx(expected)
    assert figure.value.estimate == pytest.approx(own.mean() / split.mean())
    assert figure.split == pytest.approx(split.mean())
    flat = made_up_samples(rng, other_scores=np.ones((6, 40)))
    with pytest.raises(ValueError, match="no ranks to compare"):
        measures.rank_agreement(flat)


def test_a_gate_passes_on_its_bounds() -> None:
    low, high = BOUNDS["variance_ratio"].low, BOUNDS["variance_ratio"].high
    assert low is not None and high is not None
    for value, passed in ((low, True), (high, True), (low - 1e-9, False), (high + 1e-9, False)):
        gate = Gate.of("variance_ratio[3]", Figure(Interval(value, 0.0, 9.0), None))
        assert gate.passed is passed
    assert Gate.of("rank_agreement", Figure(Interval(1.2, 1.1, 1.3), 0.8)).passed


def test_samples_share_noise_where_they_say_so(tmp_path: Path, data: str) -> None:
    model = load_model(model_file(tmp_path / "a.safetensors", random_spec(**SPEC)))
    engine = registry.create("cpu", model, threads=1)
    store = load_episodes(data, control_period_s=PERIOD_S, progress=False)
    windows = Windows(store, horizon=5, history=2, discount=0.97, termination_penalty=3.0)
    batch = whole_windows(windows, 9, 0)
    assert batch.valid.all() and len(batch.states) == 9
    who = Contestant(model.spec, engine)
    seen: list[int] = []
    samples = draw_samples(who, who, batch, candidates=300, seeds=(1, 2), on_starts=seen.append)
    assert sum(seen) == 9 and len(seen) == 3
    np.testing.assert_array_equal(samples.student_actions, samples.teacher_actions)
    np.testing.assert_array_equal(samples.student_states, samples.teacher_states)
    np.testing.assert_array_equal(samples.student_scores, samples.own_scores)
    assert not np.array_equal(samples.other_actions, samples.teacher_actions)
    # A state's candidates do not depend on which other states are asked with it.
    alone = who.request(batch, np.array([7]), 300, 2)
    np.testing.assert_allclose(engine.sample(alone)[0], samples.other_actions[7], atol=1e-5)
    errors = open_loop_errors(who, batch, np.full(4, 2.0), 1)
    request = who.request(batch, np.arange(9), 1, 1)
    states = engine.predict(request, np.ascontiguousarray(batch.actions[:, None]))[:, 0]
    expected = np.sqrt((((states - batch.next_states) / 2) ** 2).mean(-1))
    np.testing.assert_allclose(errors, expected, rtol=1e-5)
    assert len(whole_windows(windows, 10**4, 0, least=9).states) > 9
    for count, message in ((0, "starts must be"), (10**4, "windows of 5 whole steps")):
        with pytest.raises(ValueError, match=message):
            whole_windows(windows, count, 0)


def test_states_are_those_that_the_teacher_did_not_learn_from(data: str) -> None:
    store = load_episodes(data, control_period_s=PERIOD_S, progress=False)
    spec = dataclasses.replace(random_spec(**SPEC), provenance=MADE)
    np.testing.assert_array_equal(held_out_episodes(store, spec), split_episodes(store, 0.3, 3)[1])
    for made in ({}, {**MADE, "datasets": ["my/other-v0"]}, {**MADE, "training": {"seed": 3}}):
        assert held_out_episodes(store, dataclasses.replace(spec, provenance=made)) is None


def test_a_model_passes_against_itself(tmp_path: Path, data: str) -> None:
    path = model_file(tmp_path / "a.safetensors", random_spec(**SPEC))
    result = gates(
        path, path, data, starts=10, candidates=200, student_steps=(4, 2), teacher_steps=(4, 2),
        **QUICK,
    )  # fmt: skip
    assert result.passed and result.report["enough_samples"]
    assert result.report["settings"]["steps"] == {"student": [4, 2], "teacher": [4, 2]}
    for gate in result.report["gates"]:
        expected = 0.0 if "paired" in gate["name"] else 1.0
        assert gate["value"] == pytest.approx(expected, abs=1e-6), gate["name"]
    few = gates(path, path, data, starts=3, candidates=8, student_steps=(4, 2), **QUICK)
    assert not few.passed and "too few samples" in "\n".join(few.lines())


def test_the_command_writes_all_there_is(
    tmp_path: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = random_spec(**SPEC, recommended={"num_samples": 3, "action_chunk": 2})
    teacher = model_file(tmp_path / "teacher.safetensors", spec)
    few = dataclasses.replace(
        spec,
        stages={
            name: dataclasses.replace(stage, sampler=stage.sampler and SamplerSpec.uniform(1))
            for name, stage in spec.stages.items()
        },
    )
    student = model_file(tmp_path / "student.safetensors", few, seed=2)
    out = tmp_path / "findings"
    words = f"--dataset {data} --env {ID} --starts 4 --candidates 9 --teacher-steps 3,2"
    more = f"--episodes 2 --backend cpu --threads 1 --no-progress --out {out} --check"
    command = ["gates", str(student), "--teacher", str(teacher), *words.split(), *more.split()]
    assert main(command) == 1
    printed = capsys.readouterr().out
    assert "FAIL" in printed and "at 1 + 1 steps against" in printed
    report = json.loads((out / "gates.json").read_text())
    names = {gate["name"].partition("[")[0] for gate in report["gates"]}
    assert names == set(BOUNDS)
    assert sum(gate["name"].startswith("variance_ratio[") for gate in report["gates"]) == 2
    assert report["best_of_n"]["counts"] == [1, 2, 4, 8, 9]
    assert len(report["realized"]["student"]["returns"]) == 2
    assert len(report["prediction_error"]["teacher"]["mean"]) == 5
    plot_gates(tmp_path / "again.svg", report)
    for picture in (out / "gates.png", tmp_path / "again.svg"):
        assert picture.stat().st_size > 1000


def test_models_that_do_not_compare_are_refused(
    tmp_path: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = model_file(tmp_path / "a.safetensors", random_spec(**SPEC))
    for changes, message in (
        ({"horizon": 6}, "horizon is 6 in the student but 5 in the teacher"),
        ({"discount": 0.5}, "discount is 0.5"),
        ({"action": 3}, "action_size is 3"),
    ):
        other = model_file(tmp_path / "b.safetensors", random_spec(**{**SPEC, **changes}))
        with pytest.raises(ValueError, match=message):
            gates(other, path, data, **QUICK)
    goal = model_file(tmp_path / "c.safetensors", random_spec(**SPEC, context=2))
    with pytest.raises(ValueError, match="without context"):
        gates(goal, goal, data, **QUICK)
    with pytest.raises(ValueError, match="at least 2"):
        gates(path, path, data, starts=1, **QUICK)
    with pytest.raises(SystemExit):
        main(["gates", str(path), "--teacher", "x", "--dataset", data, "--out", "o",
              "--student-steps", "3"])  # fmt: skip
    assert "two counts" in capsys.readouterr().err
