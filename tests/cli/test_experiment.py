"""`dmpc-fast experiment` on the shipped models, as small as it gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dmpc_fast.assets import resolve
from dmpc_fast.cli.experiment import EXPERIMENTS, QUICK_TRAINING
from dmpc_fast.cli.main import main
from dmpc_fast.evaluation.experiments.arms import Arm, run_arms
from dmpc_fast.evaluation.experiments.novel_reward import TARGETS, beyond, reached
from dmpc_fast.objectives import GaussianTarget, Speed

QUICK = (
    "--episodes 2 --seed 3 --num-samples 2 --max-steps 5 --threads 1 --backend cpu --no-progress"
).split()


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(EXPERIMENTS)


def test_refusals(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "misfit", "--episodes", "0"]) == 2
    assert "--episodes" in capsys.readouterr().err
    assert main(["experiment", "misfit", "--video"]) == 2
    assert "--video" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["experiment", "misfit", "--model", "walker2d=missing.safetensors"])
    assert "NAME=FILE" in capsys.readouterr().err


def test_misfit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["experiment", "misfit", "--out", "r", *QUICK]) == 0
    folder = tmp_path / "r" / "misfit"
    report = json.loads((folder / "walker2d.json").read_text(encoding="utf-8"))
    assert report["result"]["healthy"]["episodes"] == 2
    assert (folder / "misfit.png").stat().st_size > 0
    assert (folder / "table.md").read_text(encoding="utf-8").count("\n") == 5
    # Everything is there: a second run measures nothing.
    monkeypatch.setattr(
        "dmpc_fast.evaluation.experiments.misfit_monitor.record_episodes", lambda *_, **__: 1 / 0
    )
    assert main(["experiment", "misfit", "--out", "r", *QUICK]) == 0


def test_novel_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpc_fast.evaluation.experiments.novel_reward.SAMPLES", (2, 3))
    # A teacher's proposal can be re-noised, a shipped student's cannot.
    teacher = ("--model", f"hopper={resolve('hopper-teacher')}")
    assert main(["experiment", "novel-reward", "--out", "r", *teacher, *QUICK]) == 0
    folder = tmp_path / "r" / "novel-reward"
    names = {path.stem for path in folder.glob("*.json")}
    assert {target.name for target in TARGETS} < names
    assert {f"{target.name}-3" for target in TARGETS} < names
    assert {"walker2d-free", "walker2d-bounded", "hopper-learned"} < names
    table = (folder / "table.md").read_text(encoding="utf-8")
    # Height targets have an arm with a guide besides, speeds have none.
    assert table.count("hopper-low") == 5
    for count in ("2", "1 + 1"):
        assert f"| hopper-low, guided | 1.015 | {count} |" in table
    assert "walker2d-lunge-search" not in names and "halfcheetah-slow-guided" not in names
    for samples in (2, 3):
        assert f"| hopper-low | 1.015 | {samples} |" in table


def test_chosen_arms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["experiment", "novel-reward", "--out", "r", *QUICK, "--arms"]
    assert main([*command, "halfcheetah-slow", "--arms", "halfcheetah-learned"]) == 0
    folder = tmp_path / "r" / "novel-reward"
    assert {p.stem for p in folder.glob("*.json")} == {"halfcheetah-slow", "halfcheetah-learned"}
    table = (folder / "table.md").read_text(encoding="utf-8").splitlines()
    assert len(table) == 3 and table[2].startswith("| halfcheetah-slow | -0.018 | 2 |")
    capsys.readouterr()
    assert main([*command, "nothing"]) == 2
    assert "no arm matches ['nothing']" in capsys.readouterr().err
    # The table of this experiment begins with an arm that was not asked for.
    assert main(["experiment", "settings", "--out", "r", *QUICK, "--arms", "chunk-1"]) == 0
    assert "no table or plot yet" in capsys.readouterr().out
    assert main(["experiment", "all", "--arms", "nothing"]) == 2
    assert "--arms" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*hold one episode")
def test_defect_before_and_after_adapting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "data"))
    monkeypatch.setattr("dmpc_fast.evaluation.experiments.defect.PLAY_EPISODES", (1, 3))
    quick = "--episodes 2 --num-samples 2 --max-steps 40 --threads 1 --backend cpu --no-progress"
    monkeypatch.setattr("dmpc_fast.cli.experiment.FULL_TRAINING", QUICK_TRAINING)
    for name in ("novel-dynamics", "both"):
        command = ["experiment", name, "--out", "r", "--finetune-steps", "2", *quick.split()]
        assert main(command) == 0
    folder = tmp_path / "r" / "novel-dynamics"
    table = (folder / "table.md").read_text(encoding="utf-8")
    robots, models = ("healthy", "healthy-after", "before"), ("ceiling", "unaware", "told")
    for arm in (*robots, *models, "after-3", "after-1"):
        assert f"| {arm} |" in table
    healthy, after = (
        json.loads((folder / f"{arm}.json").read_text(encoding="utf-8"))["result"]
        for arm in ("healthy", "after-3")
    )
    assert healthy["scores"] != after["scores"]
    assert after["finetune_seconds"] > 0
    # A model adapted by other settings is another model.
    models = adapted(tmp_path)
    again = ["experiment", "both", "--out", "r", "--finetune-steps", "3", *quick.split()]
    assert main(again) == 0
    assert len(models) == 2 and len(adapted(tmp_path) - models) == 1
    assert (tmp_path / "r" / "both" / "both.png").stat().st_size > 0


def adapted(folder: Path) -> set[str]:
    models = (folder / "r" / "models").glob("finetune-*/model.safetensors")
    return {path.parent.name for path in models}


def test_arms_run_again_only_where_settings_differ(tmp_path: Path) -> None:
    runs: list[str] = []

    def arm(name: str, setting: object) -> Arm:
        def measure() -> dict[str, Any]:
            runs.append(name)
            return {}

        return Arm(name, {"setting": setting}, measure)

    run_arms(tmp_path, [arm("a", (1, 2)), arm("b", 1)], progress=False)
    run_arms(tmp_path, [arm("a", (1, 2)), arm("b", 2)], progress=False)
    assert runs == ["a", "b", "b"]
    assert not list(tmp_path.glob("*.partial"))

    more = [arm("a", (1, 2)), arm("b", 3), arm("c-1", 1), arm("c-2", 1)]
    found = run_arms(tmp_path, more, progress=False, only=["c-*"])
    assert runs == ["a", "b", "b", "c-1", "c-2"]
    assert list(found) == ["a", "c-1", "c-2"]
    with pytest.raises(ValueError, match=r"no arm matches \['d'\]; there are \['a', 'b', 'c-1'"):
        run_arms(tmp_path, more, progress=False, only=["d"])


def test_a_fall_counts_as_a_miss() -> None:
    up = np.zeros((6, 9))
    up[:, 0], up[:, 8] = 1.2, [1, 2, 3, 1, 2, 3]
    found = reached(GaussianTarget(0, 1.2, 5e-4, 5.0), [up, up[:3]], limit=6)
    assert found["distance"][0] == pytest.approx((0 + 0.6) / 2)
    assert found["reward_return"][0] == pytest.approx((30 + 15) / 2)
    assert found["quantity"][0] == found["peak"][0] == pytest.approx(1.2)
    speed = reached(Speed(8, 2.0), [up], limit=6)
    assert speed["reward_return"] == [pytest.approx(-4.0), None]
    part = beyond([up])
    assert part["share"][0] == pytest.approx(4 / 6)
    assert part["excess"][0] == pytest.approx((0.099 + 1.099) / 3, abs=1e-9)
