"""The rule of non-inferiority on made-up evaluations, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dmpc_fast.cli.main import main
from dmpc_fast.evaluation.noninferiority import compare

SETS = ("my/hopper/a-v0", "my/walker2d/b-v0", "my/halfcheetah/c-v0")


def write(path: Path, dataset: str | None, scores: np.ndarray, **changes: Any) -> Path:
    """An evaluation's report with what the rule reads; `changes` are of its settings."""
    seeds = changes.pop("seeds", 10_000 + np.arange(len(scores)))
    normalized = changes.pop("normalized", True)
    settings = {
        "environment": "Robot-v0",
        "datasets": None if dataset is None else [dataset],
        "modify": [],
        "max_steps": None,
        **changes,
    }
    episodes = {
        "return": (10 * scores).tolist(),
        "score": scores.tolist() if normalized else None,
        "seed": list(map(int, seeds)),
    }
    path.write_text(json.dumps({"settings": settings, "episodes": episodes}), encoding="utf-8")
    return path


def sides(
    folder: Path, shifts: tuple[float, ...], episodes: int = 80
) -> tuple[list[Path], list[Path]]:
    """Evaluations of `SETS` whose scores differ by `shifts` on average, on very unlike episodes."""
    rng = np.random.default_rng(5)
    ours, theirs = [], []
    for i, (dataset, shift) in enumerate(zip(SETS, shifts, strict=True)):
        base = rng.uniform(0, 100, episodes)
        noise = rng.normal(0, 1, episodes)
        ours.append(write(folder / f"a{i}.json", dataset, base + shift + noise - noise.mean()))
        theirs.append(write(folder / f"b{i}.json", dataset, base))
    return ours, theirs


@pytest.mark.parametrize(
    ("shifts", "failed"),
    [
        ((0.0, 0.5, -0.2), []),
        ((-2.0, -2.0, -2.0), ["mean difference above", "no set significantly"]),
        ((9.0, 0.0, -3.0), ["no set significantly"]),
        ((-9.0, -9.0, -9.0), ["90 % interval", "mean difference above", "no set significantly"]),
    ],
)
def test_each_criterion(tmp_path: Path, shifts: tuple[float, ...], failed: list[str]) -> None:
    result = compare(*sides(tmp_path, shifts))
    broken = [name for name, held in result.report["criteria"].items() if not held]
    assert len(broken) == len(failed)
    assert all(any(part in name for name in broken) for part in failed)
    assert result.passed is not bool(failed)
    assert result.report["overall"]["difference"] == pytest.approx(np.mean(shifts))
    for row, shift in zip(result.report["sets"], shifts, strict=True):
        assert row["difference"] == pytest.approx(shift)
        assert row["interval_90"][0] < shift < row["interval_90"][1]
        assert row["p_holm"] >= row["p_below"]


def test_too_few_episodes_do_not_pass(tmp_path: Path) -> None:
    result = compare(*sides(tmp_path, (5.0, 5.0, 5.0), episodes=49))
    assert not result.passed
    assert [name for name, held in result.report["criteria"].items() if not held] == [
        "at least 50 pairs of episodes a set"
    ]


def test_episodes_pair_by_seed_and_files_by_set(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    scores, order = rng.uniform(0, 100, 60), rng.permutation(60)
    ours = [
        write(tmp_path / "a0.json", SETS[1], scores[order], seeds=order),
        write(tmp_path / "a1.json", SETS[0], scores),
        write(tmp_path / "a2.json", SETS[0], scores + 1),
    ]
    theirs = [
        write(tmp_path / "b0.json", SETS[0], scores),
        write(tmp_path / "b1.json", SETS[0], scores),
        write(tmp_path / "b2.json", SETS[1], scores, seeds=np.arange(60)),
    ]
    by_set = {row["set"]: row for row in compare(ours, theirs).report["sets"]}
    assert by_set[SETS[1]]["difference"] == pytest.approx(0)
    assert by_set[SETS[0]]["difference"] == pytest.approx(0.5)
    assert by_set[SETS[0]]["pairs"] == 120


def test_returns_serve_where_there_are_no_scores(tmp_path: Path) -> None:
    a = write(tmp_path / "a.json", None, np.arange(3.0), normalized=False)
    b = write(tmp_path / "b.json", None, np.arange(3.0) + 1, normalized=False)
    (row,) = compare([b], [a]).report["sets"]
    assert (row["set"], row["difference"]) == ("Robot-v0", pytest.approx(10))


def test_what_does_not_pair_is_refused(tmp_path: Path) -> None:
    scores = np.arange(5.0)
    base = write(tmp_path / "base.json", SETS[0], scores)
    broken = tmp_path / "broken.json"
    broken.write_text('{"settings": {}}', encoding="utf-8")
    for number, (changes, message) in enumerate(
        (
            ({"modify": ["body[torso].mass*=2"]}, "modify is"),
            ({"max_steps": 10}, "max_steps is 10"),
            ({"environment": "Other-v0"}, "1 evaluations on one side and 0 on the other"),
            ({"seeds": np.arange(5)}, "share only 0 of 5"),
            ({"normalized": False}, "normalised scores"),
            ({"seeds": np.zeros(5)}, "seed twice"),
        )
    ):
        other = write(tmp_path / f"{number}.json", SETS[0], scores, **changes)
        with pytest.raises(ValueError, match=message):
            compare([other], [base])
    with pytest.raises(ValueError, match="no report of dmpc-fast evaluate"):
        compare([broken], [base])
    with pytest.raises(ValueError, match="no evaluation was given"):
        compare([], [])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = sides(tmp_path, (0.0, 0.0, -9.0))
    out = tmp_path / "comparison.json"
    command = ["compare", *map(str, ours), "--against", *map(str, theirs), "--json", str(out)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert SETS[2] in printed and "not inferior: NO" in printed
    assert json.loads(out.read_text())["passed"] is False
    assert main([*command, "--check"]) == 1
    assert main(["compare", str(ours[0]), "--against", str(tmp_path / "no.json")]) == 2
