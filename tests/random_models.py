"""Models with random weights: every path alive, activations and outputs of the order of one."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from dmpc_fast.model_file import Model
from dmpc_fast.normalizer import Normalizer
from dmpc_fast.spec import EnvironmentSpec, ModelSpec, PolicySpec, SamplerSpec, StageSpec

SIZES: dict[str, Any] = {"layers": 2, "width": 24, "heads": 3, "head_size": 5, "mlp": 40}


def random_spec(
    *,
    state: int = 5,
    action: int = 3,
    horizon: int = 6,
    history: int = 1,
    context: int = 0,
    members: int = 1,
    discount: float = 0.97,
    penalty: float = 3.0,
    proposal: SamplerSpec | None = None,
    dynamics: SamplerSpec | None = None,
    stages: dict[str, dict[str, Any]] | None = None,
    recommended: dict[str, Any] | None = None,
    control_period_s: float = 0.02,
    policy: PolicySpec | None = None,
    **sizes: Any,
) -> ModelSpec:
    """A spec of small odd sizes.

    `sizes` are fields of `StageSpec` for all stages, `stages` fields of single ones. Of the actions,
    the first is bounded on both sides, the second above, the third not at all, and so on.
    """
    samplers = {
        "proposal": proposal or SamplerSpec.uniform(3),
        "dynamics": dynamics or SamplerSpec.uniform(2, "consistency"),
        "objective": None,
    }
    counts = {"proposal": 1, "dynamics": 1, "objective": members}
    return ModelSpec(
        state_size=state,
        action_size=action,
        horizon=horizon,
        history=history,
        context=context,
        discount=discount,
        termination_penalty=penalty,
        stages={
            name: StageSpec(
                **{**SIZES, **sizes, **(stages or {}).get(name, {})},
                members=counts[name],
                sampler=sampler,
            )
            for name, sampler in samplers.items()
        },
        environment=EnvironmentSpec(
            id=None,
            observation_keys=None,
            action_low=tuple(-0.8 if i % 3 == 0 else None for i in range(action)),
            action_high=tuple(None if i % 3 == 2 else 0.8 for i in range(action)),
            control_period_s=control_period_s,
        ),
        recommended=recommended or {},
        policy=policy,
    )


def random_tensors(rng: np.random.Generator, spec: ModelSpec) -> dict[str, np.ndarray]:
    """Every tensor of `spec.tensor_shapes()`, float32."""
    return {
        name: _tensor(rng, name, shape).astype(np.float32)
        for name, shape in spec.tensor_shapes().items()
    }


def _tensor(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    values = rng.normal(size=shape)
    if name.startswith("normalizer."):
        if name.endswith(".scale"):
            return rng.uniform(0.4, 1.6, size=shape)
        return 0.3 * values
    if "modulation" in name:
        # Scales and gates vary about a half, so that no candidate and no layer is switched off.
        return 0.5 * values / np.sqrt(shape[-1]) if len(shape) > 1 else 0.5 + 0.2 * values
    if name.endswith(".bias"):
        return 0.1 * values
    if name.endswith("positions"):
        return 0.5 * values
    return values / np.sqrt(shape[-1])


def random_model(rng: np.random.Generator, **sizes: Any) -> Model:
    """A model of `random_spec(**sizes)` with random weights, as if read from a file."""
    spec = random_spec(**sizes)
    tensors = random_tensors(rng, spec)
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].tobytes())
    return Model(
        spec=spec,
        normalizer=Normalizer.from_tensors(tensors),
        tensors=tensors,
        sha256=digest.hexdigest(),
    )
