"""Regression of decisions: the policy's network on all that was seen so far."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dmpc_fast.imitation.decisions import Decisions
from dmpc_fast.imitation.settings import ImitationSettings
from dmpc_fast.models.policy import PolicyNetwork
from dmpc_fast.normalizer import Normalizer
from dmpc_fast.spec import ModelSpec

CLIP_NORM = 1.0
WARMUP = 100


def new_network(spec: ModelSpec, seed: int) -> PolicyNetwork:
    """A policy of `spec` with torch's own initialisation, from `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PolicyNetwork(spec)


def fit(
    network: PolicyNetwork,
    decisions: Decisions,
    normalizer: Normalizer,
    settings: ImitationSettings,
    *,
    steps: int,
    round_: int,
    heard: Callable[[float], object] = lambda loss: None,
) -> PolicyNetwork:
    """`network` after `steps` of Adam on the mean squared error of normalised actions.

    Learning rate: linear warm-up, cosine decay to 0. What is given back is the exponential moving
    average of the weights. heard: told the loss of every step's batch.

    Raises FloatingPointError where the loss is not finite.
    """
    conditions = torch.from_numpy(decisions.conditions)
    actions = torch.from_numpy(normalizer.action.normalize(decisions.actions))
    generator = torch.Generator().manual_seed(settings.seed * 1009 + round_)
    average = copy.deepcopy(network).requires_grad_(False)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=1e-5
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    for step in range(steps):
        rows = torch.randint(len(actions), (settings.batch_size,), generator=generator)
        loss: Tensor = (network(conditions[rows]) - actions[rows]).square().mean()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the policy diverged at step {step}: its loss is {loss}")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
        optimiser.step()
        schedule.step()
        _follow(average, network, min(settings.ema_decay, (1 + step) / (10 + step)))
        heard(float(loss.detach()))
    network.load_state_dict(average.state_dict())
    return network


def weights_of(network: PolicyNetwork) -> dict[str, np.ndarray]:
    """Copies of its tensors by name, as a file holds them."""
    return {name: tensor.detach().numpy().copy() for name, tensor in network.state_dict().items()}


def _rate(step: int, steps: int) -> float:
    cosine = 0.5 * (1 + np.cos(np.pi * min(1.0, step / steps)))
    return float(min(1.0, (step + 1) / WARMUP) * cosine)


@torch.no_grad()
def _follow(average: PolicyNetwork, network: PolicyNetwork, decay: float) -> None:
    for own, new in zip(average.parameters(), network.parameters(), strict=True):
        own.lerp_(new, 1 - decay)
