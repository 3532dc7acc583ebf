"""Experiments that compare the product with what others do, as small as they get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dmpc_fast.cli.main import main
from dmpc_fast.rivals import point_mass

SMALL = "--quick --seed 3 --threads 1 --backend cpu --no-progress --out r".split()


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_planners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpc_fast.evaluation.experiments.planners.TIMED_COUNTS", (2, 4))
    monkeypatch.setattr("dmpc_fast.evaluation.experiments.planners.TIMED_PLANS", 3)
    command = ["experiment", "planners", "--max-steps", "9", *SMALL]
    assert main(command) == 0
    folder = tmp_path / "r" / "planners"
    table = (folder / "table.md").read_text(encoding="utf-8")
    for search in ("ssr", "ssr-mujoco", "random-uniform", "mbop", "cem", "mppi-proposals"):
        assert f"| walker2d | {search} | count | 4 |" in table
    assert "| walker2d | cem | time |" in table
    report = json.loads((folder / "walker2d-ssr-count.json").read_text(encoding="utf-8"))
    assert len(report["result"]["scores"]) == 2
    monkeypatch.setattr("dmpc_fast.evaluation.experiments.planners._measure", lambda *_: 1 / 0)
    assert main(command) == 0


def test_settings(tmp_path: Path) -> None:
    assert main(["experiment", "settings", "--max-steps", "9", *SMALL]) == 0
    table = (tmp_path / "r" / "settings" / "table.md").read_text(encoding="utf-8")
    for arm in ("usual", "candidates-1", "discount-0.9", "penalty-0", "warm-start-0.8"):
        assert f"| {arm} |" in table


def test_severity(tmp_path: Path) -> None:
    assert main(["experiment", "severity", "--max-steps", "9", *SMALL]) == 0
    table = (tmp_path / "r" / "severity" / "table.md").read_text(encoding="utf-8")
    assert "| ankle-0.25 |" in table and "| v4-friction |" in table


def test_proposals(tmp_path: Path) -> None:
    assert main(["experiment", "proposals", "--train-steps", "30", *SMALL]) == 0
    table = (tmp_path / "r" / "proposals" / "table.md").read_text(encoding="utf-8")
    assert "| diffusion-single-step |" in table and "| gaussian-multi-step |" in table


def test_lanes_are_two() -> None:
    store = point_mass.demonstrations(20, seed=4)
    first = store.observations.reshape(20, -1, 2)[:, 0]
    actions = store.actions.reshape(20, -1, 2)
    assert point_mass.succeeded(point_mass.rolled(first, actions)).mean() > 0.9
    assert not point_mass.succeeded(point_mass.rolled(first, 0.5 * actions)).any()
