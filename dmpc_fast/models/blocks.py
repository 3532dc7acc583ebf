"""Layers of the trajectory transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from dmpc_fast.noise import FREQUENCIES
from dmpc_fast.spec import ANGLE_FREQUENCIES, LAYER_NORM_EPSILON, StageSpec

#: Up to this many tokens, compiled training uses attention that the compiler fuses itself.
SHORT_SEQUENCE = 16


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """(N, T, width) scaled and shifted by (N or 1, width)."""
    return x * (1 + scale[:, None, :]) + shift[:, None, :]


class Condition(nn.Module):
    """Embeds history and noise angles into one vector: two layers, SiLU between.

    hidden = silu(W_h h + W_t phi(t) + W_s phi(s) + b); condition = silu(W_o hidden + b_o). The last
    SiLU stands here, not in front of every modulation that reads the vector.
    """

    frequencies: Tensor

    def __init__(self, condition_size: int, width: int, *, angles: bool) -> None:
        super().__init__()
        self.history = nn.Linear(condition_size, width)
        self.angle = nn.Linear(2 * ANGLE_FREQUENCIES, width, bias=False) if angles else None
        self.target = nn.Linear(2 * ANGLE_FREQUENCIES, width, bias=False) if angles else None
        self.out = nn.Linear(width, width)
        self.register_buffer("frequencies", torch.from_numpy(FREQUENCIES), persistent=False)

    def forward(self, condition: Tensor, angle: Tensor | None, target: Tensor | None) -> Tensor:
        hidden = self.history(condition)
        if self.angle is not None and angle is not None:
            hidden = hidden + self.angle(self._features(angle, hidden.dtype))
        if self.target is not None and target is not None:
            hidden = hidden + self.target(self._features(target, hidden.dtype))
        return functional.silu(self.out(functional.silu(hidden)))

    def _features(self, angle: Tensor, dtype: torch.dtype) -> Tensor:
        phase = angle[:, None] * self.frequencies
        return torch.cat([phase.sin(), phase.cos()], dim=-1).to(dtype)


class Block(nn.Module):
    """Attention and MLP, each pre-norm, modulated and gated by the condition (adaLN-Zero)."""

    def __init__(self, sizes: StageSpec) -> None:
        super().__init__()
        inner = sizes.heads * sizes.head_size
        self.heads, self.head_size = sizes.heads, sizes.head_size
        self.modulation = nn.Linear(sizes.width, 6 * sizes.width)
        self.norm = nn.LayerNorm(sizes.width, eps=LAYER_NORM_EPSILON, elementwise_affine=False)
        self.qkv = nn.Linear(sizes.width, 3 * inner)
        self.projection = nn.Linear(inner, sizes.width)
        self.mlp_in = nn.Linear(sizes.width, sizes.mlp)
        self.mlp_out = nn.Linear(sizes.mlp, sizes.width)

    def forward(self, tokens: Tensor, condition: Tensor, mask: Tensor | None) -> Tensor:
        """tokens (N, T, width), condition (N or 1, width), mask (N, 1, 1, T) added to the logits."""
        modulation = self.modulation(condition).chunk(6, dim=-1)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation
        attended = self._attention(modulate(self.norm(tokens), shift_a, scale_a), mask)
        tokens = tokens + gate_a[:, None, :] * attended
        hidden = self.mlp_in(modulate(self.norm(tokens), shift_m, scale_m))
        hidden = self.mlp_out(functional.gelu(hidden, approximate="tanh"))
        return tokens + gate_m[:, None, :] * hidden

    def _attention(self, x: Tensor, mask: Tensor | None) -> Tensor:
        count, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(count, tokens, 3, self.heads, self.head_size)
        if torch.compiler.is_compiling() and tokens <= SHORT_SEQUENCE:
            out = _short_attention(qkv, mask)
        else:
            query, key, value = qkv.permute(2, 0, 3, 1, 4)
            out = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            out = out.transpose(1, 2)
        return self.projection(out.reshape(count, tokens, -1))


def _short_attention(qkv: Tensor, mask: Tensor | None) -> Tensor:
    """Attention written as products and sums, for the compiler to fuse into one loop.

    With a handful of tokens a batched matrix product is all overhead, and the library's fused
    attention more so; benchmarks/bench_training_step.py measures what this saves.
    qkv (N, T, 3, heads, head_size), mask (N, 1, 1, T) -> (N, T, heads, head_size).
    """
    query, key, value = qkv.unbind(2)
    wide = torch.promote_types(qkv.dtype, torch.float32)
    logits = (query[:, :, None].to(wide) * key[:, None].to(wide)).sum(-1)
    logits = logits * query.shape[-1] ** -0.5
    if mask is not None:
        logits = logits + mask[:, 0, 0, None, :, None].to(wide)
    weights = torch.softmax(logits, dim=2)
    return (weights[..., None] * value[:, None].to(wide)).sum(2).to(qkv.dtype)
