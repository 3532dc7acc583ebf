"""How the objective learns: expectiles, values from themselves, other states, other stages kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dmpc_fast.data.minari import load_episodes
from dmpc_fast.data.windows import Windows
from dmpc_fast.model_file import load_model
from dmpc_fast.training.api import train
from dmpc_fast.training.batches import StageBatches
from dmpc_fast.training.losses import objective_loss
from dmpc_fast.training.settings import TrainingSettings

OPTIONS: dict[str, Any] = {
    "preset": "tiny",
    "stage_options": {"patch": 2},
    "horizon": 4,
    "steps": 4,
    "batch_size": 8,
    "compile": False,
    "control_period_s": 0.05,
    "progress": False,
}


@pytest.fixture
def windows(dataset: str) -> Windows:
    store = load_episodes([dataset], control_period_s=0.05, progress=False)
    return Windows(store, horizon=5, discount=0.9, termination_penalty=7.0)


def test_the_target_of_a_bootstrapped_value_is_the_return_where_the_value_is(
    windows: Windows,
) -> None:
    scales = windows.normalizer()
    batches = StageBatches(windows, scales, "objective", seed=1, batch_size=512, bootstrap=True)
    indices = np.arange(len(windows))
    batch = batches._with_following(batches.at(0), indices, step=0)
    assert batch.next_return is not None and batch.next_share is not None
    known = batch.value_valid.numpy()
    assert known.any() and not known.all()
    horizon = windows.horizon
    ends, returns = batch.next_share.numpy() == 0, windows.returns.astype(np.float64)
    assert (known & ends).any() and (known & ~ends).any()
    now = scales.value.normalize(returns[np.minimum(indices + horizon, len(returns) - 1)])
    later = scales.value.normalize(returns[np.minimum(indices + 2 * horizon, len(returns) - 1)])
    target = batch.next_return.numpy() + batch.next_share.numpy() * later.reshape(-1)
    # A full window may end just where its episode does: the state after it has no return of its own.
    _, again = windows.following(windows.following(indices)[0])
    chosen = known & (ends | again)
    np.testing.assert_allclose(target[chosen], now.reshape(-1)[chosen], rtol=0, atol=1e-5)


def test_following_windows_begin_where_windows_end_and_in_the_same_episode(
    windows: Windows,
) -> None:
    indices = np.arange(len(windows))
    following, exists = windows.following(indices)
    np.testing.assert_array_equal(following[~exists], indices[~exists])
    last = windows.batch(indices[exists]).next_states[:, -1]
    first = windows.batch(following[exists]).states[:, -1]
    np.testing.assert_array_equal(last, first)
    np.testing.assert_array_equal(
        windows.ages[following[exists]], windows.ages[indices[exists]] + windows.horizon
    )


@pytest.mark.parametrize("expectile", [0.1, 0.5, 0.9])
def test_the_best_constant_is_the_expectile(expectile: float) -> None:
    rng = np.random.default_rng()
    targets = torch.tensor(rng.normal(size=501))
    value = torch.zeros((), dtype=torch.float64, requires_grad=True)
    outputs = torch.zeros(501, 1, 3, dtype=torch.float64)
    outputs = torch.cat([outputs[..., :2], value.expand(501, 1, 1)], -1)
    nothing = torch.zeros(501, 1)
    with torch.no_grad():
        low, high = -10.0, 10.0
        for _ in range(60):  # where E[tau (y - m)+] = E[(1 - tau) (m - y)+]
            middle = (low + high) / 2
            away = targets - middle
            pull = (torch.where(away > 0, expectile, 1 - expectile) * away).sum()
            low, high = (middle, high) if pull > 0 else (low, middle)
        outputs[..., 2] = low
    outputs.requires_grad_(True)
    loss = objective_loss(
        outputs, nothing, nothing, targets, nothing.bool(), torch.ones(501).bool(), 501, expectile
    )[2]
    (gradient,) = torch.autograd.grad(loss, outputs)
    # Losses are float32 sums.
    assert abs(float(gradient.sum())) < 1e-5


def test_only_the_chosen_stage_is_trained(dataset: str, tmp_path: Path) -> None:
    base = load_model(train(dataset, out=tmp_path / "base", **OPTIONS))
    made = train(
        dataset,
        out=tmp_path / "new",
        base=tmp_path / "base" / "model.safetensors",
        only=["objective"],
        discount=0.9,
        objective_members=2,
        **OPTIONS,
    )
    model = load_model(made)
    for name, tensor in base.tensors.items():
        if name.startswith(("proposal.", "dynamics.", "normalizer.state", "normalizer.action")):
            np.testing.assert_array_equal(model.tensors[name], tensor)
    assert model.spec.discount == 0.9 and model.spec.stages["objective"].members == 2
    assert model.tensors["normalizer.value.mean"] != base.tensors["normalizer.value.mean"]
    assert model.spec.provenance["parent"] == base.sha256
    assert model.spec.provenance["kept"] == ["proposal", "dynamics"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ["objective"]}, "belong together"),
        ({"base": "base/model.safetensors"}, "belong together"),
        ({"base": "base/model.safetensors", "only": ["reward"]}, "only must name stages"),
        (
            {"base": "base/model.safetensors", "only": ["objective"], "horizon": 6},
            "horizon 4, not 6",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(
    dataset: str, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    train(dataset, out=tmp_path / "base", **OPTIONS)
    if "base" in options:
        options = {**options, "base": tmp_path / str(options["base"])}
    with pytest.raises(ValueError, match=message):
        train(dataset, out=tmp_path / "new", **{**OPTIONS, **options})


@pytest.mark.parametrize(
    "options",
    [
        {"value_bootstrap": True, "value_expectile": 0.8},
        {"predicted_states": 0.5, "state_noise": 0.1},
        {"objective_temperature": 0.5},
    ],
    ids=str,
)
def test_every_way_changes_the_objective_and_nothing_else(
    dataset: str, tmp_path: Path, options: dict[str, Any]
) -> None:
    usual = load_model(train(dataset, out=tmp_path / "usual", **OPTIONS))
    other = load_model(train(dataset, out=tmp_path / "other", **options, **OPTIONS))
    changed = {
        name.partition(".")[0]
        for name, tensor in usual.tensors.items()
        if not np.array_equal(tensor, other.tensors[name])
    }
    assert changed == {"objective"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("value_expectile", 1.0),
        ("state_noise", -0.1),
        ("state_noise", float("nan")),
        ("predicted_states", 1.5),
        ("objective_temperature", 0.0),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        TrainingSettings(steps={"objective": 1}, **{name: value})  # type: ignore[arg-type]
