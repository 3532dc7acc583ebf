"""A run that is killed at any moment and resumed ends like one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

COMMAND = (
    "--preset tiny --patch 4 --horizon 8 --steps 40 --batch-size 16 --checkpoint-every 7 "
    "--validate-every 11 --threads 1 --no-compile --control-period 0.05 --no-progress"
).split()


def start(dataset: str, out: Path, *extra: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dmpc_fast", "train", "--dataset", dataset]
    return subprocess.Popen([*command, "--out", str(out), *COMMAND, *extra])


def logged_steps(out: Path) -> int:
    path = out / "metrics.jsonl"
    if not path.exists():
        return 0
    return max([0, *(json.loads(row)["step"] for row in path.read_text().splitlines()[:-1])])


@pytest.mark.slow
def test_killed_and_resumed_run_ends_bit_for_bit_the_same(dataset: str, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(dataset, whole).wait() == 0
    kills, extra = 0, ()
    for threshold in (1, 60, 100):
        process = start(dataset, killed, *extra)
        while process.poll() is None and logged_steps(killed) < threshold:
            time.sleep(0.01)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
        if (killed / "settings.json").exists():
            extra = ("--resume",)
    assert kills, "the runs ended before they could be killed"
    assert start(dataset, killed, *extra).wait() == 0

    expected = load_file(whole / "model.safetensors")
    actual = load_file(killed / "model.safetensors")
    assert expected.keys() == actual.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(tensor, actual[name], err_msg=name)
    rows = [json.loads(row) for row in (killed / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows]
    assert steps == sorted(set(steps)), "a resumed run logs every step once"


@pytest.mark.parametrize("muon", [(), ("dynamics", "objective")])
def test_every_checkpoint_continues_to_the_same_weights(
    muon: tuple[str, ...], dataset: str, tmp_path: Path
) -> None:
    """The same promise without processes: stop after each stage and in the middle of one."""
    from dmpc_fast.training.api import train
    from dmpc_fast.training.loop import Trainer

    options = {
        "preset": "tiny",
        "stage_options": {"patch": 4},
        "horizon": 8,
        "steps": 6,
        "batch_size": 8,
        "checkpoint_every": 2,
        "compile": False,
        "control_period_s": 0.05,
        "progress": False,
        "muon": muon,
        "dynamics_angles": "sampler",
        "horizon_weighting": 1.5,
        "mirror_states": ["1", "0", "3", "2"],
        "mirror_actions": ["1", "0"],
    }
    expected = load_file(train(dataset, out=tmp_path / "whole", **options))

    class Stop(Exception):
        pass

    original = Trainer._checkpoint
    for stop_at in range(1, 8):
        saved = 0

        def save_then_stop(
            self: Trainer, *args: object, stop_at: int = stop_at, **kwargs: object
        ) -> None:
            nonlocal saved
            original(self, *args, **kwargs)
            saved += 1
            if saved == stop_at:
                raise Stop

        out = tmp_path / f"stopped-{stop_at}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "_checkpoint", save_then_stop)
            with pytest.raises(Stop):
                train(dataset, out=out, **options)
        actual = load_file(train(dataset, out=out, **{**options, "resume": True}))
        for name, tensor in expected.items():
            np.testing.assert_array_equal(tensor, actual[name], err_msg=f"{stop_at}: {name}")
