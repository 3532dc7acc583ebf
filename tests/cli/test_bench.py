"""`dmpc-fast bench`: what it measures and what it says of the rest. No test asserts a time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dmpc_fast.backends.registry import available
from dmpc_fast.cli.bench import SPIN, machine
from dmpc_fast.cli.main import main
from dmpc_fast.model_file import save_model
from tests.random_models import random_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    made = random_model(np.random.default_rng())
    save_model(path, made.spec, made.tensors)
    return path


def test_every_backend_has_a_row_or_a_reason(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    options = "--num-samples 3 --threads 1 --steps 1+2 --plans 2 --json".split()
    assert main(["bench", str(model), *options, str(out)]) == 0
    printed, report = capsys.readouterr().out, json.loads(out.read_text(encoding="utf-8"))
    rows = {row["variant"]: row for row in report["rows"]}
    assert SPIN in rows
    for backend in available():
        labels = {f"{backend} {dtype}" for dtype in ("float32", "bf16", "int8")}
        known = {*rows, *report["unavailable"]}
        assert backend in known or labels <= known
    for label, row in rows.items():
        assert label in printed
        assert row["count"] == 2
        assert row["period_share"] == pytest.approx(row["median_s"] / 0.02)
    assert all(reason in printed for reason in report["unavailable"].values())
    assert report["settings"]["num_samples"] == 3
    assert report["settings"]["steps"] == "1+2"
    assert str(tmp_path) not in out.read_text(encoding="utf-8")


def test_one_backend_and_dtype_alone(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--backend cpu --dtype bf16 --plans 1".split()
    assert main(["bench", str(model), *options]) == 0
    printed = capsys.readouterr().out
    assert "cpu bf16" in printed
    assert "torch" not in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--backend torch --dtype int8", "not 'int8'"),
        ("--backend abacus", "got 'abacus'"),
        ("--plans 0", "plans must be 1 or more"),
        ("--num-samples 0", "num_samples"),
        ("--json /no/such/folder/out.json", "does not exist"),
    ],
)
def test_what_cannot_be_measured_is_said(
    model: Path, options: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(model), *options.split()]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["2", "2+", "+1", "2+1+1", "a+b", "-1+1"])
def test_steps_are_two_numbers(model: Path, text: str) -> None:
    with pytest.raises(SystemExit):
        main(["bench", str(model), f"--steps={text}"])


def test_the_machine_is_described_without_paths_or_names_of_hosts() -> None:
    described = machine()
    assert described["versions"]["numpy"] == np.__version__
    text = json.dumps(described)
    assert str(Path.home()) not in text
    assert "hostname" not in text
