"""The whole job from the command line: record, train, look, evaluate, adapt, evaluate again."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from dmpc_fast.cli.main import main

RANDOM, PLAY = "test/hopper/random-v0", "test/hopper/play-v0"
DEFECT = "actuator[foot_joint].ctrlrange=-0.5,0.5"
QUICK_TRAINING = (
    "--batch-size 16 --threads 1 --no-compile --precision float32 --no-progress".split()
)
QUICK_PLANS = "--num-samples 3 --action-chunk 4 --max-steps 12".split()


def run(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def fail(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must fail as expected; gives its one line."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr()
    lines = printed.err.strip().splitlines()
    assert lines[-1].startswith(f"dmpc-fast {arguments[0]}: ")
    assert "Traceback" not in printed.err
    assert len(lines) == 1
    return lines[-1]


def collect_random(steps: int = 300) -> None:
    run("collect", "--env", "Hopper-v5", "--model", "random", "--steps", steps, "--dataset", RANDOM)


def train(out: Path, *, dataset: str = RANDOM) -> Path:
    run(
        "train", "--dataset", dataset, "--preset", "tiny", "--horizon", 8, "--patch", 4,
        "--stage", "dynamics.patch=2", "--steps", 6, "--proposal-steps", 2,
        "--dynamics-steps", 1, "--out", out, *QUICK_TRAINING,
    )  # fmt: skip
    return out / "model.safetensors"


def evaluate(model: Path, out: Path, *options: str) -> dict:
    run(
        "evaluate", model, "--env", "Hopper-v5", "--episodes", 2, "--seed", 0, "--json", out,
        *QUICK_PLANS, *options,
    )  # fmt: skip
    report: dict = json.loads(out.read_text(encoding="utf-8"))
    return report


def test_record_train_evaluate_adapt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collect_random()
    model = train(tmp_path / "run")

    capsys.readouterr()
    run("info", tmp_path / "run", "--json")
    description = json.loads(capsys.readouterr().out)
    assert description["spec"]["environment"]["id"] == "Hopper-v5"
    assert description["spec"]["provenance"]["datasets"] == [RANDOM]

    healthy = evaluate(model, tmp_path / "healthy.json")
    assert len(healthy["episodes"]["return"]) == 2
    assert np.isfinite(healthy["episodes"]["score"]).all()

    searching = ("--search-rounds", "1", "--search-parents", "2", "--warm-start", "0.6")
    searched = evaluate(model, tmp_path / "searched.json", *searching)
    assert "IteratedSearch(rounds=1" in searched["settings"]["planner_options"]["search"]
    assert "WarmStart(angle=0.6" in searched["settings"]["planner_options"]["warm_start"]
    capsys.readouterr()
    alone = ("evaluate", str(model), "--env", "Hopper-v5", "--search-angle", "0.4")
    assert main(list(alone)) == 2
    assert "--search-rounds" in capsys.readouterr().err

    run(
        "collect", "--env", "Hopper-v5", "--model", model, "--steps", 60, "--dataset", PLAY,
        "--modify", DEFECT, *QUICK_PLANS,
    )  # fmt: skip
    adapted = tmp_path / "adapted"
    run(
        "finetune", model, "--dataset", PLAY, "--steps", 4, "--out", adapted, *QUICK_TRAINING,
    )  # fmt: skip
    capsys.readouterr()
    run("info", adapted, "--json")
    parent = json.loads(capsys.readouterr().out)["spec"]["provenance"]["parent"]
    assert parent == description["sha256"]

    changed = evaluate(adapted / "model.safetensors", tmp_path / "changed.json", "--modify", DEFECT)
    assert changed["settings"]["modify"] == [DEFECT]


def test_the_demo_drives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collect_random()
    model = train(tmp_path / "run")
    capsys.readouterr()
    run("demo", "--model", model, "--num-samples", 2, "--steps", 10, "--episodes", 2, "--unpaced")
    printed = capsys.readouterr().out
    for words in (
        "seed 10000: return",
        "seed 10001: return",
        "normalised score",
        "plan latency: p50",
        "missed deadlines:",
        "slow-down:",
    ):
        assert words in printed


def test_the_demo_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collect_random()
    model = train(tmp_path / "run")
    policy = tmp_path / "policy"
    run(
        "distill", model, "--policy", "--env", "Hopper-v5", "--out", policy, "--rounds", 1,
        "--round-states", 20, "--robots", 2, "--policy-width", 8, "--steps", 4,
        "--max-steps", 10, "--threads", 1, "--no-progress",
    )  # fmt: skip
    capsys.readouterr()
    quick = ("--num-samples", 2, "--steps", 10, "--unpaced", "--backend", "torch")
    run("demo", "--model", policy, "--compare", "--teacher", model, *quick)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Hopper-v5, 1 episode of each"
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "controller", "teacher, N = 2", "planner, N = 2", "proposal alone, N = 1", "policy"
    ]  # fmt: skip
    assert "2 + 1" in lines[2]

    run("demo", "--model", model, "--compare", *quick)
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert "--compare" in fail(capsys, "demo", "--model", model, "--teacher", model)
    video = ("--video", tmp_path / "film.gif")
    assert "film.gif" in fail(capsys, "demo", "--model", model, "--compare", *video)


def test_unknown_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = fail(capsys, "train", "--dataset", "test/no/such-v0", "--out", tmp_path / "run")
    assert "test/no/such-v0" in line
    assert not (tmp_path / "run").exists()


def test_missing_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = tmp_path / "absent.safetensors"
    for command in (["info", absent], ["evaluate", absent, "--env", "Hopper-v5"]):
        assert "absent.safetensors" in fail(capsys, *command)


def test_a_file_that_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(bytes(range(256)))
    assert "wrong.safetensors" in fail(capsys, "info", wrong)


def test_an_environment_that_does_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collect_random(120)
    model = train(tmp_path / "run")
    line = fail(capsys, "evaluate", model, "--env", "Walker2d-v5", "--episodes", 1)
    assert "Walker2d-v5" in line
    assert "17" in line and "11" in line


def test_unknown_environment(capsys: pytest.CaptureFixture[str]) -> None:
    line = fail(
        capsys, "collect", "--env", "NoSuchRobot-v5", "--model", "random", "--steps", 10,
        "--dataset", RANDOM,
    )  # fmt: skip
    assert "NoSuchRobot" in line


def test_nan_in_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collect_random(60)
    (file,) = (tmp_path / "minari").rglob("main_data.hdf5")
    with h5py.File(file, "r+") as data:
        data["episode_0"]["rewards"][2] = np.nan
    line = fail(capsys, "train", "--dataset", RANDOM, "--out", tmp_path / "run", *QUICK_TRAINING)
    assert "rewards" in line and RANDOM in line
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_run_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collect_random(60)
    model = train(tmp_path / "run")
    before = model.read_bytes()
    assert "resume" in fail(
        capsys, "train", "--dataset", RANDOM, "--out", tmp_path / "run", *QUICK_TRAINING
    )
    assert model.read_bytes() == before
