"""Dynamics models of one step, chained, beside the product's model of F steps at once.

A `Rollout` maps states (B, S) and actions (B, K, A) to the K states (B, K, S) that follow, all in
environment units. Errors of a chained model feed its next step; what leaves `LIMIT` standard
deviations is held there, so that a model that diverges still gives numbers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dmpc_fast.backends.base import Backend, CandidateGroup, PlanRequest
from dmpc_fast.data.windows import Windows
from dmpc_fast.model_file import Model
from dmpc_fast.normalizer import Normalizer
from dmpc_fast.rivals.lone_stage import lone_spec, train_lone_stage
from dmpc_fast.rivals.perceptrons import Perceptron, fit, width_for
from dmpc_fast.spec import ModelSpec

Rollout = Callable[[np.ndarray, np.ndarray], np.ndarray]
LIMIT = 20.0


def chained(engine: Backend, model: Model, *, seed: int) -> Rollout:
    """A model file's dynamics, its F steps at a time; F is 1 for a single-step model."""
    horizon = model.spec.horizon

    def rollout(states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        robots, steps = actions.shape[:2]
        whole = -steps % horizon
        padded = np.concatenate([actions, np.repeat(actions[:, -1:], whole, axis=1)], axis=1)
        found = []
        for block in range(padded.shape[1] // horizon):
            part = padded[:, None, block * horizon : (block + 1) * horizon]
            request = PlanRequest(
                states=np.ascontiguousarray(states[:, None], np.float32),
                actions=np.zeros((robots, 0, actions.shape[2]), np.float32),
                mask=np.zeros((robots, 0), np.float32),
                context=np.zeros((robots, 0), np.float32),
                seed=seed,
                robots=np.arange(robots, dtype=np.int64),
                plan_index=np.full(robots, block, np.int64),
                groups=(CandidateGroup(1),),
            )
            predicted = engine.predict(request, np.ascontiguousarray(part, np.float32))[:, 0]
            found.append(_held(predicted, model.normalizer))
            states = found[-1][:, -1]
        return np.concatenate(found, axis=1)[:, :steps]

    return rollout


def perceptrons(networks: Sequence[nn.Module], normalizer: Normalizer) -> Rollout:
    """The mean of networks that predict the normalised change of the state in one step."""

    @torch.inference_mode()
    def rollout(states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        state = torch.from_numpy(normalizer.state.normalize(states).astype(np.float32))
        action = torch.from_numpy(normalizer.action.normalize(actions).astype(np.float32))
        found = []
        for step in range(actions.shape[1]):
            given = torch.cat([state, action[:, step]], -1)
            change = torch.stack([network(given) for network in networks]).mean(0)
            state = (state + change).clamp(-LIMIT, LIMIT)
            found.append(state)
        track = torch.stack(found, 1).numpy()
        result: np.ndarray = normalizer.state.denormalize(track).astype(np.float32)
        return result

    return rollout


def train_perceptrons(
    windows: Windows,
    normalizer: Normalizer,
    path: Path,
    *,
    members: int,
    parameters: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> list[Perceptron]:
    """`members` networks of `parameters` parameters together, each from its own start and draws,
    read from `path` if they are there. windows: of horizon 1."""
    store = windows.store
    state, action = store.observations.shape[1], store.actions.shape[1]
    width = width_for(parameters // members, state + action, state)
    torch.manual_seed(seed)
    networks = [Perceptron(state + action, state, width) for _ in range(members)]
    if path.exists():
        tensors = load_file(path)
        for member, network in enumerate(networks):
            network.load_state_dict(
                {k.partition("/")[2]: v for k, v in tensors.items() if k.startswith(f"{member}/")}
            )
        return networks

    def loss(network: nn.Module, member: int, step: int) -> torch.Tensor:
        rng = np.random.default_rng([seed, member, step])
        batch = windows.batch(rng.integers(0, len(windows), batch_size))
        before = normalizer.state.normalize(batch.states[:, 0])
        after = normalizer.state.normalize(batch.next_states[:, 0])
        given = np.concatenate([before, normalizer.action.normalize(batch.actions[:, 0])], -1)
        change: torch.Tensor = network(torch.from_numpy(given))
        return (change - torch.from_numpy(after - before)).square().mean()

    fit(networks, loss, steps=steps, learning_rate=learning_rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {f"{m}/{k}": v for m, net in enumerate(networks) for k, v in net.state_dict().items()}, path
    )
    return networks


def train_diffusion(
    windows: Windows,
    held_out: Windows,
    normalizer: Normalizer,
    like: ModelSpec,
    out: Path,
    *,
    steps: int,
    progress: bool,
    **settings: Any,
) -> Path:
    """A model file whose dynamics network has the sizes of `like`'s, for the horizon of `windows`;
    goes on where it was. settings: fields of `TrainingSettings`."""
    own = like.stages["dynamics"]
    sizes = dataclasses.replace(own, patch=math.gcd(own.patch, windows.horizon))
    return train_lone_stage(
        out,
        "dynamics",
        lone_spec(windows, "dynamics", sizes),
        normalizer,
        windows,
        held_out,
        steps=steps,
        progress=progress,
        **settings,
    )


def _held(states: np.ndarray, normalizer: Normalizer) -> np.ndarray:
    """States within `LIMIT` standard deviations of the data's mean."""
    mean, reach = normalizer.state.mean, LIMIT * normalizer.state.scale
    held: np.ndarray = np.clip(states, mean - reach, mean + reach).astype(np.float32)
    return held
