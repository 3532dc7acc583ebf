"""Exported models hold what the original holds, in less space."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dmpc_fast.cli.main import main
from dmpc_fast.model_file import load_model, save_model
from dmpc_fast.spec import SamplerSpec
from tests.random_models import random_model


def test_export_halves_the_weights_and_keeps_the_rest(tmp_path: Path) -> None:
    model = random_model(np.random.default_rng())
    source, out = tmp_path / "source.safetensors", tmp_path / "out.safetensors"
    save_model(source, model.spec, model.tensors)
    assert main(["export", str(source), "--out", str(out), "--num-samples", "16"]) == 0
    exported = load_model(out)
    assert exported.spec.recommended == {**model.spec.recommended, "num_samples": 16}
    assert exported.spec.stages == model.spec.stages
    for name, tensor in model.tensors.items():
        np.testing.assert_allclose(exported.tensors[name], tensor, rtol=1e-3, atol=1e-6)
    assert out.stat().st_size < 0.6 * source.stat().st_size


def test_export_gives_other_samplers(tmp_path: Path) -> None:
    model = random_model(np.random.default_rng())
    source, out = tmp_path / "source.safetensors", tmp_path / "out.safetensors"
    save_model(source, model.spec, model.tensors)
    options = "--proposal-steps 3 --rule consistency"
    assert main(["export", str(source), "--out", str(out), *options.split()]) == 0
    stages = load_model(out).spec.stages
    assert stages["proposal"].sampler == SamplerSpec.uniform(3, "consistency")
    assert stages["dynamics"] == model.spec.stages["dynamics"]
    options = "--proposal-angles 1.5708 0.4 --dynamics-angles 1.2 --rule ddim"
    assert main(["export", str(source), "--out", str(out), *options.split()]) == 0
    stages = load_model(out).spec.stages
    assert stages["proposal"].sampler == SamplerSpec("ddim", (np.pi / 2, 0.4))
    assert stages["dynamics"].sampler == SamplerSpec("ddim", (1.2,))
    for wrong in ("--dynamics-steps 0", "--rule ddim", "--proposal-angles 1.6"):
        assert main(["export", str(source), "--out", str(out), *wrong.split()]) == 2


def test_a_missing_model_is_named(tmp_path: Path, capsys: object) -> None:
    assert main(["export", str(tmp_path / "nothing"), "--out", str(tmp_path / "out")]) == 2
