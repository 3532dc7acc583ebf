"""Fine-tuning all weights, the last layers, or low-rank factors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_models import random_spec
from torch import nn

from dmpc_fast.cli.main import main
from dmpc_fast.model_file import Model, load_model
from dmpc_fast.models.network import TrajectoryTransformer
from dmpc_fast.rivals.point_mass import demonstrations
from dmpc_fast.training.adaptation import (
    Adaptation,
    LowRankLinear,
    load_trained,
    merged_state,
    prepare_members,
)
from dmpc_fast.training.api import finetune, train
from dmpc_fast.training.loop import Trainer
from dmpc_fast.training.run import held_out_split
from dmpc_fast.training.settings import TrainingSettings

OPTIONS: dict[str, Any] = {"batch_size": 8, "compile": False, "progress": False, "threads": 1}


@pytest.fixture
def parent(dataset: str, tmp_path: Path) -> Path:
    return train(
        dataset, out=tmp_path / "run", preset="tiny", stage_options={"patch": 2}, horizon=8, steps=4,
        control_period_s=0.05, **OPTIONS,
    )  # fmt: skip


def changed(before: Model, after: Model) -> set[str]:
    return {
        name
        for name, tensor in before.tensors.items()
        if not np.array_equal(tensor, after.tensors[name])
    }


@pytest.mark.parametrize("method", ["full", "last_layers", "lora"])
def test_a_method_changes_its_own_weights(
    method: Any, parent: Path, dataset: str, tmp_path: Path
) -> None:
    child = finetune(parent, dataset, out=tmp_path / "fine", steps=3, method=method, **OPTIONS)
    before, after = load_model(parent), load_model(child)
    names = {name.removeprefix("dynamics.0.") for name in changed(before, after)}
    if method == "full":
        assert {"token.weight", "positions", "blocks.0.qkv.bias", "final.out.weight"} <= names
    elif method == "last_layers":
        assert {name.rpartition(".")[0] for name in names} >= {"blocks.1.qkv", "final.out"}
        assert all(name.startswith(("blocks.1.", "final.")) for name in names)
    else:
        assert "blocks.0.mlp_in.weight" in names and "blocks.1.modulation.weight" in names
        assert all(name.startswith("blocks.") and name.endswith(".weight") for name in names)
        change = after.tensors["dynamics.0.blocks.0.modulation.weight"].astype(np.float64)
        change -= before.tensors["dynamics.0.blocks.0.modulation.weight"]
        values = np.linalg.svd(change, compute_uv=False)
        assert values[8] < 1e-2 * values[0]
    assert after.spec.provenance["adaptation"]["method"] == method


def test_merged_weights_do_what_the_factors_did() -> None:
    rng = torch.Generator().manual_seed(3)
    spec = random_spec(state=4, action=3, horizon=6, patch=2)
    plain = TrajectoryTransformer(spec, "dynamics")
    for parameter in plain.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=rng)
    networks = nn.ModuleList([TrajectoryTransformer(spec, "dynamics")])
    prepare_members(networks, Adaptation("lora", lora_rank=2, lora_alpha=3.0))
    load_trained(networks, nn.ModuleList([plain]).state_dict())
    inputs = [torch.randn(5, 6, size, generator=rng) for size in (4, 3)]
    inputs += [torch.randn(5, spec.condition_size, generator=rng), torch.rand(5, generator=rng)]
    torch.testing.assert_close(networks[0](*inputs), plain(*inputs))
    for module in networks.modules():
        if isinstance(module, LowRankLinear):
            module.lora_up.data += torch.randn(module.lora_up.shape, generator=rng)
    assert not torch.allclose(networks[0](*inputs), plain(*inputs), atol=1e-2)
    nn.ModuleList([plain]).load_state_dict(merged_state(networks))
    torch.testing.assert_close(networks[0](*inputs), plain(*inputs), rtol=1e-4, atol=1e-4)


def test_fine_tuning_by_factors_resumes_to_the_same_weights(
    parent: Path, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**OPTIONS, "steps": 5, "method": "lora", "checkpoint_every": 2}
    whole = load_model(finetune(parent, dataset, out=tmp_path / "whole", **options))
    save = Trainer._checkpoint

    def save_and_stop(self: Trainer, *args: Any) -> None:
        save(self, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_checkpoint", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        finetune(parent, dataset, out=tmp_path / "parts", **options)
    monkeypatch.setattr(Trainer, "_checkpoint", save)
    again = finetune(parent, dataset, out=tmp_path / "parts", resume=True, **OPTIONS)
    assert not changed(whole, load_model(again))


def test_command(parent: Path, dataset: str, tmp_path: Path, capsys: Any) -> None:
    common = ["finetune", str(parent), "--dataset", dataset, "--out", str(tmp_path / "fine")]
    common += "--steps 2 --batch-size 8 --no-compile --no-progress".split()
    assert main([*common, "--last-layers", "1"]) == 2
    assert "--last-layers is for --method last-layers, got full" in capsys.readouterr().err
    assert main([*common, "--method", "last-layers", "--last-layers", "9"]) == 2
    assert "at most the network's 2, got 9" in capsys.readouterr().err
    common[common.index("--out") + 1] = str(tmp_path / "lora")
    assert main([*common, "--method", "lora", "--lora-rank", "3"]) == 0
    made = load_model(tmp_path / "lora" / "model.safetensors").spec.provenance["adaptation"]
    assert (made["method"], made["lora_rank"]) == ("lora", 3)


def test_one_episode_is_learned_from_and_validated_on() -> None:
    spec = random_spec(state=2, action=2, horizon=4)
    with pytest.warns(UserWarning, match=r"\['two-mode-point-mass'\] hold one episode"):
        windows, held_out = held_out_split(demonstrations(1, 5), spec, TrainingSettings(steps={}))
    assert len(windows) == len(held_out) == 8


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "some"}, "got 'some'"),
        ({"last_layers": 0}, "last_layers must be an integer of at least 1, got 0"),
        ({"lora_rank": True}, "lora_rank must be an integer of at least 1, got True"),
        ({"lora_alpha": 0.0}, "lora_alpha must be finite and positive, got 0.0"),
    ],
)
def test_wrong_adaptations_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Adaptation(**fields)
    with pytest.raises(ValueError, match=r"provenance.adaptation .* got \[1\]"):
        Adaptation.from_provenance({"adaptation": [1]})
