"""Films and plots are written whole, in the formats that their names say."""

from __future__ import annotations

from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest

from dmpc_fast.evaluation.evaluate import EvaluationResult
from dmpc_fast.evaluation.plots import plot_evaluation
from dmpc_fast.evaluation.policies import PlanTimes
from dmpc_fast.evaluation.trace import Trace
from dmpc_fast.evaluation.video import choose_renderer, write_video


def frames(count: int) -> list[np.ndarray]:
    return [np.full((33, 48, 3), 10 * i, np.uint8) for i in range(count)]


def test_a_gif_plays_in_real_time(tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    write_video(path, frames(20), period_s=0.008)
    read = imageio.mimread(path)
    # Every fifth picture of 125 a second: 40 ms, which GIF can count.
    assert len(read) == 4 and read[0].shape[:2] == (32, 48)
    with imageio.get_reader(path) as reader:
        assert reader.get_meta_data()["duration"] == 40
    assert [path.name for path in tmp_path.iterdir()] == ["film.gif"]


# imageio-ffmpeg leaves the pipes of its processes to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_mp4_is_written(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write_video(path, frames(10), period_s=0.05)
    with imageio.get_reader(path) as reader:
        assert reader.get_meta_data()["fps"] == pytest.approx(20)


def test_what_cannot_be_filmed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in .mp4 or .gif, got .*film.avi"):
        write_video(tmp_path / "film.avi", frames(2), 0.02)
    with pytest.raises(ValueError, match="no pictures to film"):
        write_video(tmp_path / "film.gif", [], 0.02)
    assert not list(tmp_path.iterdir())


def test_a_machine_that_cannot_draw_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr("dmpc_fast.evaluation.video._try_renderer", lambda name: f"no {name} here")
    with pytest.raises(OSError, match="egl: no egl here; osmesa: no osmesa here.*MUJOCO_GL"):
        choose_renderer()
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    choose_renderer()


@pytest.mark.parametrize(("suffix", "complete_steps"), [(".png", 5), (".svg", 0)])
def test_an_evaluation_is_drawn(tmp_path: Path, suffix: str, complete_steps: int) -> None:
    rng = np.random.default_rng(0)
    result = EvaluationResult(
        returns=rng.normal(size=5),
        scores=None,
        lengths=np.full(5, 9),
        terminated=np.array([True, False, False, True, False]),
        seeds=np.arange(5),
        plan_times=PlanTimes(),
        settings={},
        versions={},
    )
    trace = Trace(
        states=rng.normal(size=(10, 3)),
        actions=rng.normal(size=(9, 2)),
        rewards=rng.normal(size=9),
        terminated=True,
        realized=rng.normal(size=9),
        complete=np.arange(9) < complete_steps,
        plan_steps=np.array([0, 4, 8]),
        predicted=rng.normal(size=3),
        kept_steps=np.array([0, 8]),
        kept_states=rng.normal(size=(2, 6, 4, 3)),
        kept_best=np.array([1, 5]),
        frames=[],
        control_period_s=0.02,
    )
    path = tmp_path / f"plot{suffix}"
    plot_evaluation(path, result, trace)
    assert path.stat().st_size > 1000 and len(list(tmp_path.glob("*plot*"))) == 1
    assert result.summary()["plan_latency"] == {"plans": 0}
