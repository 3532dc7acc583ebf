"""Networks built from a model's tensors, and the random stream and outputs that they meet."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from random_models import random_model

from dmpc_fast import philox
from dmpc_fast.models.loading import load_networks
from dmpc_fast.models.objective import decode_objective


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_networks_hold_the_tensors(rng: np.random.Generator, dtype: torch.dtype) -> None:
    model = random_model(rng, members=2, history=2, patch=3, history_tokens=True)
    before = torch.get_rng_state()
    networks = load_networks(model.spec, model.tensors, dtype=dtype)
    assert torch.equal(before, torch.get_rng_state())
    members = {f"objective.{i}": net for i, net in enumerate(networks.objective)}
    found = {"proposal.0": networks.proposal, "dynamics.0": networks.dynamics, **members}
    names = {f"{key}.{name}" for key, net in found.items() for name in net.state_dict()}
    assert names == {name for name in model.tensors if not name.startswith("normalizer.")}
    for key, network in found.items():
        assert not network.training
        assert network.condition.frequencies.dtype == torch.float64
        for name, tensor in network.state_dict().items():
            assert tensor.dtype == dtype
            assert not tensor.requires_grad
            assert np.array_equal(tensor.float().numpy(), model.tensors[f"{key}.{name}"])


def test_shared_condition_is_the_condition_of_each(rng: np.random.Generator) -> None:
    model = random_model(rng, context=3)
    network = load_networks(model.spec, model.tensors, dtype=torch.float64).dynamics
    noisy = torch.from_numpy(rng.normal(size=(4, 6, 5)))
    actions = torch.from_numpy(rng.normal(size=(4, 6, 3)))
    condition = torch.from_numpy(rng.normal(size=(1, model.spec.condition_size)))
    angles = [torch.tensor([t], dtype=torch.float64) for t in (1.1, 0.4)]
    shared = network(noisy, actions, condition, *angles)
    single = network(noisy, actions, condition.repeat(4, 1), *(t.repeat(4) for t in angles))
    torch.testing.assert_close(shared, single)
    assert shared.shape == (4, 6, 5)


def test_decoded_outputs_are_in_environment_units(rng: np.random.Generator) -> None:
    outputs = torch.from_numpy(rng.normal(size=(2, 4, 6, 3)))
    learned = decode_objective(
        outputs,
        reward_mean=torch.tensor(2.0), reward_scale=torch.tensor(3.0),
        value_mean=torch.tensor(-5.0), value_scale=torch.tensor(10.0),
    )  # fmt: skip
    torch.testing.assert_close(learned.reward, outputs[..., 0] * 3 + 2)
    torch.testing.assert_close(learned.log_continue.exp(), outputs[..., 1].sigmoid())
    torch.testing.assert_close(learned.value, outputs[:, :, -1, 2] * 10 - 5)


def test_normals_of_several_robots_are_those_of_each(rng: np.random.Generator) -> None:
    seed = int(rng.integers(0, 2**63))
    same = {"candidates": np.array([0, 5, 2]), "stage": 1, "step": 4, "steps": 5, "size": 3}
    robots, index = np.array([0, 9, philox.MAX_ROBOT]), np.array([7, 0, 2**32 - 1])
    batch = philox.batched_normals(seed=seed, robots=robots, plan_index=index, **same)
    assert batch.shape == (3, 3, 5, 3)
    for i in range(3):
        one = philox.normals(seed=seed, robot=robots[i], plan_index=int(index[i]), **same)
        assert np.array_equal(batch[i], one)
    with pytest.raises(ValueError, match="robot must be at most"):
        philox.batched_normals(seed=seed, robots=robots + 1, plan_index=index, **same)
