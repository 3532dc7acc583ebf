"""The C++ engine as a guest of a Python process: other threads run, nothing piles up."""

from __future__ import annotations

import gc
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from random_models import random_model

from dmpc_fast.model_file import Model, save_model
from dmpc_fast.planning.planner import Planner

SIZES = {"horizon": 8, "history": 2}
STEPS = 15


def planner(model: Model, path: Path, seed: int, dtype: str = "float32") -> Planner:
    save_model(path, model.spec, model.tensors)
    return Planner.load(path, backend="cpu", num_samples=12, seed=seed, dtype=dtype, threads=2)


def drive(robot: Planner, observations: np.ndarray) -> np.ndarray:
    robot.reset()
    return np.stack([robot.act(observation).copy() for observation in observations])


def test_planners_on_threads_of_their_own_act_as_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng()
    dtypes = ("float32", "bf16", "int8")
    robots = [
        planner(random_model(rng, **SIZES), tmp_path / f"{i}.safetensors", i, dtype)
        for i, dtype in enumerate(dtypes)
    ]
    observations = rng.normal(size=(len(robots), STEPS, 5)).astype(np.float32)
    alone = [drive(*pair) for pair in zip(robots, observations, strict=True)]
    together: dict[int, np.ndarray] = {}
    start = threading.Barrier(len(robots))

    def run(i: int) -> None:
        start.wait()
        together[i] = drive(robots[i], observations[i])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(robots))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, actions in enumerate(alone):
        np.testing.assert_array_equal(together[i], actions)


@pytest.fixture
def no_switching() -> Iterator[None]:
    """Threads change only where the interpreter's lock is given up."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000.0)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("no_switching")
def test_others_run_while_a_plan_is_made(tmp_path: Path) -> None:
    rng = np.random.default_rng()
    robot = planner(random_model(rng, **SIZES), tmp_path / "model.safetensors", 0)
    observation = rng.normal(size=5).astype(np.float32)
    planning, stop, seen = False, threading.Event(), threading.Event()

    def watch() -> None:
        while not stop.is_set():
            if planning:
                seen.set()
            time.sleep(0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(5000):
        planning = True
        robot.act(observation)
        planning = False
        if seen.is_set():
            break
    stop.set()
    watcher.join()
    assert seen.is_set()


def test_plans_leave_no_memory_behind(tmp_path: Path) -> None:
    rng = np.random.default_rng()
    robot = planner(random_model(rng, **SIZES), tmp_path / "model.safetensors", 0)
    observations = rng.normal(size=(400, 5)).astype(np.float32)

    def held() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        for observation in observations[:50]:
            robot.act(observation)
        before = held()
        for observation in observations:
            robot.act(observation)
        grown = held() - before
    finally:
        tracemalloc.stop()
    # A single object per plan, of the smallest kind, would be 400 x 16 bytes.
    assert grown < 400 * 16
