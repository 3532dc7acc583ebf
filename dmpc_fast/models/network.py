"""The one trajectory transformer: proposal, dynamics and objective are this class with other sizes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dmpc_fast.models.blocks import Block, Condition, modulate
from dmpc_fast.spec import LAYER_NORM_EPSILON, ModelSpec


class TrajectoryTransformer(nn.Module):
    """Bidirectional transformer over horizon / patch tokens, conditioned by adaptive layer norm.

    Pre-norm blocks whose scale, shift and gate come from the condition, zero-initialised (DiT,
    Peebles & Xie 2023). The parameter names are those of the model file.

    Args:
        spec: sizes of the whole model.
        stage: which stage this network is: ``proposal``, ``dynamics`` or ``objective``.
    """

    def __init__(self, spec: ModelSpec, stage: str) -> None:
        super().__init__()
        sizes = spec.stages[stage]
        self.patch, self.horizon = sizes.patch, spec.horizon
        self.noisy_size, self.clean_size = spec.noisy_size(stage), spec.clean_size(stage)
        self.output_size = spec.output_size(stage)
        features = self.noisy_size + self.clean_size
        tokens = spec.horizon // sizes.patch

        self.token = nn.Linear(self.patch * features, sizes.width)
        self.positions = nn.Parameter(torch.empty(tokens, sizes.width))
        if sizes.positions == "fourier":
            self.positions.requires_grad_(False)
        self.history = (
            nn.Linear(spec.condition_size, sizes.width, bias=False)
            if sizes.history_tokens
            else None
        )
        self.condition = Condition(spec.condition_size, sizes.width, angles=self.noisy_size > 0)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width, eps=LAYER_NORM_EPSILON, elementwise_affine=False)
        self.final = nn.ModuleDict(
            {
                "modulation": nn.Linear(sizes.width, 2 * sizes.width),
                "out": nn.Linear(sizes.width, self.patch * self.output_size),
            }
        )
        self._initialise(sizes.positions)

    def _initialise(self, positions: str) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if positions == "fourier":
            self.positions.data.copy_(_fourier_positions(*self.positions.shape))
        else:
            nn.init.normal_(self.positions, std=0.02)
        for name, parameter in self.named_parameters():
            if ".modulation." in name or name.startswith("final."):
                nn.init.zeros_(parameter)
        if self.condition.target is not None:
            nn.init.zeros_(self.condition.target.weight)

    def forward(
        self,
        noisy: Tensor | None,
        clean: Tensor | None,
        condition: Tensor,
        angle: Tensor | None = None,
        target: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Velocity of the noisy trajectory, or the objective's outputs, per time step.

        Args:
            noisy: (N, F, X) normalised noisy features; None where X = 0.
            clean: (N, F, U) normalised clean features; None where U = 0.
            condition: (N, C) or (1, C) normalised condition, shared by candidates when 1.
            angle, target: (N,) or (1,) noise angles t and s in radians; None for the objective.
                A `target` of None feeds no features of s: how a teacher is trained.
            valid: (N, F) bool, False for steps past an episode's end; tokens without a valid step
                are not attended to. None at run time.

        Returns:
            (N, F, O).
        """
        parts = [x for x in (noisy, clean) if x is not None]
        features = torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]
        count = features.shape[0]
        tokens = self.token(features.reshape(count, self.horizon // self.patch, -1))
        tokens = tokens + self.positions
        if self.history is not None:
            tokens = tokens + self.history(condition)[:, None, :]
        embedded = self.condition(condition, angle, target)
        mask = None
        if valid is not None:
            kept = valid.reshape(count, -1, self.patch).any(dim=-1)
            mask = torch.zeros(kept.shape, dtype=tokens.dtype, device=tokens.device)
            mask = mask.masked_fill(~kept, float("-inf"))[:, None, None, :]
        for block in self.blocks:
            tokens = block(tokens, embedded, mask)
        shift, scale = self.final["modulation"](embedded).chunk(2, dim=-1)
        out = self.final["out"](modulate(self.norm(tokens), shift, scale))
        return out.reshape(count, self.horizon, self.output_size)


def _fourier_positions(tokens: int, width: int) -> Tensor:
    """Sines and cosines of the token index, geometric periods (Vaswani et al. 2017, section 3.5)."""
    half = (width + 1) // 2
    frequency = 1e4 ** (-torch.arange(half, dtype=torch.float64) / half)
    phase = torch.arange(tokens, dtype=torch.float64)[:, None] * frequency
    return torch.cat([phase.sin(), phase.cos()], dim=-1)[:, :width].float()
