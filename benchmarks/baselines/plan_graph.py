"""One plan as torch modules that every rival runs or exports: the same weights, the same work.

The work of `TorchBackend.plan` for B robots and one group of N candidates of each, with the noise as
an input: normalise, the proposal's rows, clip in environment units, the dynamics' rows, the objective
and J. What does not depend on the inputs (features of the noise angles) is folded beforehand, as any
careful user would.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from dmpc_fast import objectives
from dmpc_fast.model_file import Model
from dmpc_fast.models import blocks
from dmpc_fast.models.blocks import modulate
from dmpc_fast.models.loading import load_networks
from dmpc_fast.models.network import TrajectoryTransformer
from dmpc_fast.models.objective import decode_objective
from dmpc_fast.noise import SamplerRow, compile_sampler
from dmpc_fast.normalizer import NAMES
from dmpc_fast.spec import SamplerSpec


class StageGraph(nn.Module):
    """A stage's network with its noise angles as a vector: `TrajectoryTransformer` in other words."""

    def __init__(self, network: TrajectoryTransformer) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor, condition: Tensor, row: Tensor | None) -> Tensor:
        """features (B N, F, X + U), condition (B, C), row (1, width) of `row_vector` -> (B N, F, O)."""
        network, count = self.network, features.shape[0]
        if len(condition) > 1:
            condition = condition.repeat_interleave(count // len(condition), dim=0)
        tokens = network.token(features.reshape(count, network.horizon // network.patch, -1))
        tokens = tokens + network.positions
        if network.history is not None:
            tokens = tokens + network.history(condition)[:, None, :]
        hidden = network.condition.history(condition)
        if row is not None:
            hidden = hidden + row
        embedded = functional.silu(network.condition.out(functional.silu(hidden)))
        for block in network.blocks:
            tokens = block(tokens, embedded, None)
        shift, scale = network.final["modulation"](embedded).chunk(2, dim=-1)
        out = network.final["out"](modulate(network.norm(tokens), shift, scale))
        return out.reshape(count, network.horizon, network.output_size)

    @torch.no_grad()
    def row_vector(self, row: SamplerRow) -> Tensor:
        """What a sampler row's two angles add to the condition's hidden layer: (1, width)."""
        condition = self.network.condition
        assert condition.angle is not None and condition.target is not None
        features = [
            condition._features(torch.tensor([angle], dtype=torch.float64), torch.float32)
            for angle in (row.t, row.s)
        ]
        return condition.angle(features[0]) + condition.target(features[1])


class PlanParts(nn.Module):
    """Networks, statistics and bounds of a model, and the steps of a plan made of them.

    Models with a history, a context or fresh noise between rows are refused (ValueError): the cells
    of the benchmark have none.
    """

    def __init__(self, model: Model, proposal_steps: int, dynamics_steps: int) -> None:
        super().__init__()
        spec = model.spec
        if spec.history != 1 or spec.context != 0:
            raise ValueError(
                f"rivals plan with history 1 and context 0, got {spec.history} and {spec.context}"
            )
        networks = load_networks(spec, model.tensors)
        self.proposal, self.dynamics = StageGraph(networks.proposal), StageGraph(networks.dynamics)
        self.objective = nn.ModuleList(StageGraph(member) for member in networks.objective)
        self.proposal_rows = compile_sampler(SamplerSpec.uniform(proposal_steps))
        self.dynamics_rows = compile_sampler(SamplerSpec.uniform(dynamics_steps))
        for name in NAMES:
            affine = getattr(model.normalizer, name)
            self.register_buffer(f"{name}_mean", torch.tensor(affine.mean))
            self.register_buffer(f"{name}_scale", torch.tensor(affine.scale))
        environment = spec.environment
        low = [-torch.inf if bound is None else bound for bound in environment.action_low]
        high = [torch.inf if bound is None else bound for bound in environment.action_high]
        self.register_buffer("low", torch.tensor(low))
        self.register_buffer("high", torch.tensor(high))
        powers = objectives.discount_powers(spec.discount, spec.horizon)
        self.register_buffer("discounts", torch.tensor(powers, dtype=torch.float32))
        self.penalty = spec.termination_penalty

    def condition(self, observation: Tensor) -> Tensor:
        return (observation - self.state_mean) / self.state_scale

    def clip(self, proposal: Tensor) -> Tensor:
        """Normalised actions -> environment units inside the bounds."""
        actions = proposal * self.action_scale + self.action_mean
        return torch.minimum(torch.maximum(actions, self.low), self.high)

    def given(self, actions: Tensor) -> Tensor:
        return (actions - self.action_mean) / self.action_scale

    def finish(self, x: Tensor, given: Tensor, actions: Tensor, condition: Tensor) -> list[Tensor]:
        """States in environment units (B N, F, S), scores (B N,) and the best candidates (B,)."""
        states = x * self.state_scale + self.state_mean
        clean = torch.cat([x, given], dim=-1)
        outputs = torch.stack([member(clean, condition, None) for member in self.objective])
        learned = decode_objective(
            outputs,
            reward_mean=self.reward_mean, reward_scale=self.reward_scale,
            value_mean=self.value_mean, value_scale=self.value_scale,
        )  # fmt: skip
        scores, _, _ = objectives.evaluate(
            None, states, actions, discounts=self.discounts, penalty=self.penalty,
            learned=learned, xp=torch,
        )  # fmt: skip
        best = torch.argmax(scores.reshape(len(condition), -1), dim=1)
        return [states, scores, best]


class PlanGraph(nn.Module):
    """The whole plan as one graph, its sampler rows unrolled."""

    def __init__(self, parts: PlanParts) -> None:
        super().__init__()
        self.parts = parts
        for name in ("proposal", "dynamics"):
            stage = getattr(parts, name)
            for i, row in enumerate(getattr(parts, f"{name}_rows")):
                self.register_buffer(f"{name}_row_{i}", stage.row_vector(row))

    def forward(
        self, observation: Tensor, action_noise: Tensor, state_noise: Tensor
    ) -> tuple[Tensor, ...]:
        """(B, S), (B N, F, A), (B N, F, S) -> actions (B N, F, A), states (B N, F, S), scores (B N,),
        best (B,), a candidate of its robot."""
        parts, x = self.parts, action_noise
        condition = parts.condition(observation)
        for i, row in enumerate(parts.proposal_rows):
            velocity = parts.proposal(x, condition, getattr(self, f"proposal_row_{i}"))
            x = row.a * x + row.b * velocity
        actions = parts.clip(x)
        given, x = parts.given(actions), state_noise
        for i, row in enumerate(parts.dynamics_rows):
            features = torch.cat([x, given], dim=-1)
            velocity = parts.dynamics(features, condition, getattr(self, f"dynamics_row_{i}"))
            x = row.a * x + row.b * velocity
        return (actions, *parts.finish(x, given, actions, condition))


@contextmanager
def library_attention() -> Iterator[None]:
    """Export `scaled_dot_product_attention` itself at any length: rivals have kernels for it."""
    before = blocks.SHORT_SEQUENCE
    blocks.SHORT_SEQUENCE = 0
    try:
        yield
    finally:
        blocks.SHORT_SEQUENCE = before
