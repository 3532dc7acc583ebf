"""A block of the network whose attention and MLP are one kernel each, forward and backward."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from dmpc_fast.kernels.attention_block import AttentionBlockWeights
from dmpc_fast.kernels.fused_attention import fused_attention
from dmpc_fast.kernels.fused_mlp import fused_mlp
from dmpc_fast.kernels.mlp_block import MlpBlockWeights
from dmpc_fast.kernels.precision import PRECISIONS
from dmpc_fast.kernels.tiles import training_refusal
from dmpc_fast.models.blocks import Block
from dmpc_fast.training.adaptation import LowRankLinear


class FusedBlock(nn.Module):
    """What `Block` computes, with its parameters under their names: state and files stay the same.

    Args:
        block: whose layers these become.
        precision: of products, one of ``float32``, ``tf32`` and ``bf16``; sums, norms, softmax and
            the stream are float32 in all of them.
    """

    def __init__(self, block: Block, precision: str) -> None:
        super().__init__()
        self.heads, self.precision = block.heads, precision
        self.modulation, self.norm = block.modulation, block.norm
        self.qkv, self.projection = block.qkv, block.projection
        self.mlp_in, self.mlp_out = block.mlp_in, block.mlp_out

    def forward(self, tokens: Tensor, condition: Tensor, mask: Tensor | None) -> Tensor:
        """tokens (N, T, width), condition (N or 1, width), mask (N, 1, 1, T) added to the logits."""
        count, length, _ = tokens.shape
        modulation = self.modulation(condition).float().expand(count, -1)
        attend, feed = modulation.chunk(2, dim=-1)
        if mask is not None:
            mask = mask.reshape(count, length).float()
        tokens = fused_attention(
            tokens.float(), attend, mask,
            AttentionBlockWeights(*self._weights(self.qkv), *self._weights(self.projection)),
            heads=self.heads, precision=self.precision,
        )  # fmt: skip
        weights = MlpBlockWeights(*self._weights(self.mlp_in), *self._weights(self.mlp_out))
        return fused_mlp(tokens, feed, weights, precision=self.precision)

    def _weights(self, layer: nn.Linear) -> tuple[Tensor, Tensor]:
        """A layer's matrix in the storage dtype and its bias."""
        weight = layer.effective() if isinstance(layer, LowRankLinear) else layer.weight
        return weight.to(PRECISIONS[self.precision].storage), layer.bias


def fuse(network: nn.Module, precision: str) -> None:
    """Put fused blocks in the place of a `TrajectoryTransformer`'s own."""
    blocks = cast(nn.ModuleList, network.blocks)
    for index, block in enumerate(blocks):
        blocks[index] = FusedBlock(cast(Block, block), precision)


def size_refusal(tokens: int, width: int, precision: str) -> str | None:
    """Why blocks of these sizes cannot be fused; None where they can."""
    return training_refusal(tokens, width, PRECISIONS[precision].inner)
