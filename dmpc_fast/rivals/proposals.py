"""Proposals on a point mass with two ways at every step: diffusion against a Gaussian.

Each is trained on the same episodes with the same optimiser steps, and asked for sequences from the
same starts. Single-step ones are chained through the true dynamics, so that proposals alone differ.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dmpc_fast.backends import registry
from dmpc_fast.backends.base import CandidateGroup, PlanRequest
from dmpc_fast.data.windows import Windows
from dmpc_fast.evaluation.experiments.arms import Arm, Common, run_arms
from dmpc_fast.model_file import load_model
from dmpc_fast.rivals import point_mass
from dmpc_fast.rivals.lone_stage import lone_spec, stage_parameters, train_lone_stage
from dmpc_fast.rivals.perceptrons import Perceptron, fit, gaussian, likelihood_loss, width_for
from dmpc_fast.spec import SamplerSpec, StageSpec

ARMS = (
    "diffusion-multi-step",
    "diffusion-single-step",
    "gaussian-multi-step",
    "gaussian-single-step",
)
#: (states (B, 2), candidates, step) -> actions (B, N, F, 2), F being 1 for a single-step proposal.
Proposal = Callable[[np.ndarray, int, int], np.ndarray]
COUNTS = (1, 4, 16, 64)
EPISODES, STARTS, BATCH, SAMPLER_STEPS, TRAIN_STEPS = 2000, 200, 256, 5, 3000


def run(common: Common) -> dict[str, dict[str, Any]]:
    """Train and sample each proposal."""
    settings = {"seed": common.seed, "steps": _steps(common), "episodes": EPISODES}
    arms = [
        Arm(name, {**settings, "proposal": name}, functools.partial(_measure, common, name))
        for name in ARMS
    ]
    return run_arms(common.out / "proposals", arms, progress=common.progress, only=common.arms)


def _steps(common: Common) -> int:
    return common.train_steps or TRAIN_STEPS


def _measure(common: Common, name: str) -> dict[str, Any]:
    kind, _, span = name.partition("-")
    horizon = point_mass.HORIZON if span == "multi-step" else 1
    store = point_mass.demonstrations(EPISODES, common.seed)
    windows = Windows(store, horizon=horizon, discount=0.99, termination_penalty=0.0)
    begin = time.perf_counter()
    make = _diffusion if kind == "diffusion" else _gaussian
    proposal, parameters = make(common, windows, name)
    seconds = time.perf_counter() - begin
    first = point_mass.starts(STARTS, common.seed)
    most = max(COUNTS)
    tracks = _tracks(proposal, first, most, horizon)
    good = point_mass.succeeded(tracks)
    return {
        "valid": float(good.mean()),
        "found": {str(n): float(good[:, :n].any(1).mean()) for n in COUNTS},
        "modes": float(np.mean([_modes(t[g]) for t, g in zip(tracks, good, strict=True)])),
        "parameters": parameters,
        "training_seconds": seconds,
    }


def _tracks(proposal: Proposal, first: np.ndarray, count: int, horizon: int) -> np.ndarray:
    """Positions (B, count, F, 2) of so many sequences from each start."""
    if horizon > 1:
        return point_mass.rolled(first[:, None], proposal(first, count, 0))
    states = np.repeat(first, count, axis=0)
    track = []
    for step in range(point_mass.HORIZON):
        states = states + proposal(states, 1, step)[:, 0, 0]
        track.append(states)
    return np.stack(track, 1).reshape(len(first), count, point_mass.HORIZON, 2)


def _modes(tracks: np.ndarray) -> int:
    """Different sequences of lanes among (n, F, 2)."""
    return len({tuple(lanes) for lanes in (tracks[..., 1] > 0).tolist()})


def _diffusion(common: Common, windows: Windows, name: str) -> tuple[Proposal, int]:
    sizes = StageSpec(2, 64, 4, 16, 128, sampler=SamplerSpec.uniform(SAMPLER_STEPS))
    steps = _steps(common)
    path = train_lone_stage(
        common.out / "models" / f"{name}-{common.seed}-{steps}",
        "proposal",
        lone_spec(windows, "proposal", sizes),
        windows.normalizer(),
        windows,
        windows,
        steps=steps,
        progress=common.progress,
        batch_size=BATCH,
        precision="float32",
        compile=False,
        validate_every=max(1, steps),
        seed=common.seed,
        threads=common.threads,
    )
    model = load_model(path)
    engine = registry.create(common.backend, model, dtype="float32", **common.options())

    def propose(states: np.ndarray, count: int, step: int) -> np.ndarray:
        robots = len(states)
        return engine.sample(
            PlanRequest(
                states=np.ascontiguousarray(states[:, None], np.float32),
                actions=np.zeros((robots, 0, 2), np.float32),
                mask=np.zeros((robots, 0), np.float32),
                context=np.zeros((robots, 0), np.float32),
                seed=common.seed,
                robots=np.arange(robots, dtype=np.int64),
                plan_index=np.full(robots, step, np.int64),
                groups=(CandidateGroup(count),),
            )
        )

    return propose, stage_parameters(model, "proposal")


def _gaussian(common: Common, windows: Windows, name: str) -> tuple[Proposal, int]:
    horizon, scales = windows.horizon, windows.normalizer()
    size = 2 * horizon
    torch.manual_seed(common.seed)
    # About the parameters of the diffusion model's two layers of width 64.
    network = Perceptron(2, 2 * size, width_for(120_000, 2, 2 * size))

    def loss(network: torch.nn.Module, member: int, step: int) -> torch.Tensor:
        rng = np.random.default_rng([common.seed, step])
        batch = windows.batch(rng.integers(0, len(windows), BATCH))
        states = torch.from_numpy(scales.state.normalize(batch.states[:, 0]))
        actions = scales.action.normalize(batch.actions).reshape(BATCH, -1)
        return likelihood_loss(network(states), torch.from_numpy(actions))

    fit([network], loss, steps=_steps(common))

    @torch.inference_mode()
    def propose(states: np.ndarray, count: int, step: int) -> np.ndarray:
        mean, log_deviation = gaussian(network(torch.from_numpy(scales.state.normalize(states))))
        rng = np.random.default_rng([common.seed, 2, step])
        noise = rng.standard_normal((len(states), count, size))
        drawn = mean.numpy()[:, None] + np.exp(log_deviation.numpy())[:, None] * noise
        actions = scales.action.denormalize(drawn.reshape(len(states), count, horizon, 2))
        return np.clip(actions, -point_mass.BOUND, point_mass.BOUND).astype(np.float32)

    return propose, sum(p.numel() for p in network.parameters())


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """The results as a Markdown table."""
    heads = " | ".join(f"found, N = {n}" for n in COUNTS)
    lines = [
        f"| proposal | valid | {heads} | lane sequences of 16 | parameters |",
        "|---" * (4 + len(COUNTS)) + "|",
    ]
    for arm, row in results.items():
        found = " | ".join(f"{row['found'][str(n)]:.2f}" for n in COUNTS)
        lines.append(
            f"| {arm} | {row['valid']:.3f} | {found} | {row['modes']:.1f} | {row['parameters']} |"
        )
    return lines


def plot(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Share of starts from which one of N proposals is valid."""
    from matplotlib.figure import Figure

    from dmpc_fast.evaluation.figure_file import save_figure

    figure = Figure(figsize=(5.5, 4), layout="constrained")
    axes = figure.subplots()
    for arm, row in results.items():
        axes.plot(COUNTS, [row["found"][str(n)] for n in COUNTS], marker="o", label=arm)
    axes.set(xlabel="candidates N", ylabel="starts with a valid proposal", xscale="log")
    axes.legend()
    save_figure(figure, path, dpi=120)
