"""Fused kernels in training where they cannot run: an error that says why, before any file is made."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from random_models import random_spec

from dmpc_fast import triton_availability
from dmpc_fast.cli.main import main
from dmpc_fast.training.api import train
from dmpc_fast.training.block_kernels import check_kernels
from dmpc_fast.training.settings import TrainingSettings
from dmpc_fast.triton_availability import KernelsUnavailableError

CPU = torch.device("cpu")


def settings(**options: object) -> TrainingSettings:
    return TrainingSettings(**{"steps": {"dynamics": 1}, "kernels": "triton", **options})  # type: ignore[arg-type]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


@pytest.mark.usefixtures("compiled")
def test_without_a_gpu_the_reason_is_given(dataset: str, tmp_path: Path) -> None:
    reason = triton_availability.refusal()
    if reason is None:
        pytest.skip("this machine has a GPU")
    with pytest.raises(KernelsUnavailableError, match=f"unavailable for training: {reason}"):
        train(
            dataset, out=tmp_path / "run", preset="tiny", horizon=8, steps=1, compile=False,
            control_period_s=0.05, progress=False, kernels="triton",
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("compiled")
def test_the_command_says_it_in_a_line(
    dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if triton_availability.refusal() is None:
        pytest.skip("this machine has a GPU")
    options = "--preset tiny --horizon 8 --steps 1 --control-period 0.05 --no-progress"
    command = ["train", "--dataset", dataset, "--out", str(tmp_path / "run"), *options.split()]
    assert main([*command, "--kernels", "triton"]) == 2
    assert "kernels 'triton' are unavailable for training" in capsys.readouterr().err


@pytest.mark.usefixtures("compiled")
def test_a_cpu_beside_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_availability, "refusal", lambda: None)
    with pytest.raises(KernelsUnavailableError, match="run on a CUDA device, not on cpu"):
        check_kernels(random_spec(), settings(), CPU)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_sizes_that_do_not_fit_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    check_kernels(random_spec(), settings(), CPU)
    with pytest.raises(KernelsUnavailableError, match=r"stages.dynamics: tokens .* got 64 and 512"):
        check_kernels(random_spec(horizon=64, width=512), settings(), CPU)


def test_torch_needs_nothing() -> None:
    check_kernels(random_spec(horizon=64, width=512), settings(kernels="torch"), CPU)
    with pytest.raises(ValueError, match="kernels must be 'torch' or 'triton', got 'cuda'"):
        settings(kernels="cuda")
