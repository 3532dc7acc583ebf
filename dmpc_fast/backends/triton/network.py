"""One network's weights as kernels want them, and one evaluation of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dmpc_fast import noise
from dmpc_fast.kernels.attention import AttentionWeights, attention
from dmpc_fast.kernels.embedding import EmbeddingWeights, embedding
from dmpc_fast.kernels.mlp import MlpWeights, mlp
from dmpc_fast.kernels.precision import Precision
from dmpc_fast.kernels.tiles import Tile, choose_tile, chunk
from dmpc_fast.kernels.update import LastLayer
from dmpc_fast.noise import SamplerRow
from dmpc_fast.spec import ModelSpec


class Stream(NamedTuple):
    """The residual stream between two kernels: x (B, C, T, W) and its parts (P, B, C, T, W)."""

    x: Tensor
    parts: Tensor


class Tiles(NamedTuple):
    """Tiles of the three kinds of kernels."""

    attention: Tile
    mlp: Tile
    ends: Tile


class Modulations(NamedTuple):
    """What the condition gives: blocks (B, rows, layers, 2, 3 W), last (B, rows, 2 W) and the offset
    of all tokens (B, W)."""

    blocks: Tensor
    last: Tensor
    offset: Tensor


class Network:
    """A stage's network.

    Args:
        spec: sizes of the whole model. stage: which stage. tensors: those of this network, by their
            names in `ModelSpec.network_shapes`.
        precision: of products. device: where they are computed.
    """

    def __init__(
        self,
        spec: ModelSpec,
        stage: str,
        tensors: Mapping[str, np.ndarray],
        *,
        precision: Precision,
        device: torch.device,
    ) -> None:
        self.sizes, self.precision = spec.stages[stage], precision
        self.tokens = spec.horizon // self.sizes.patch
        self._weights = {
            name: torch.tensor(array, dtype=torch.float32, device=device)
            for name, array in tensors.items()
        }
        self._device = device
        # What is not denoised comes from two places: states and actions, in this order.
        sources = (spec.noisy_size(stage), spec.clean_size(stage))
        if stage == "objective":
            sources = (spec.state_size, spec.action_size)
        self._embedding = self._pack_embedding(*sources)
        self._blocks = [self._pack_block(layer) for layer in range(self.sizes.layers)]
        self.last = LastLayer(self._matrix("final.out"), self._weights["final.out.bias"])
        names = [f"blocks.{layer}.modulation" for layer in range(self.sizes.layers)]
        both = [*names, "final.modulation"]
        self._modulation = torch.cat([self._weights[f"{name}.weight"] for name in both])
        self._modulation_bias = torch.cat([self._weights[f"{name}.bias"] for name in both])

    def angles(self, rows: Sequence[SamplerRow]) -> Tensor:
        """What the noise angles of sampler rows add to the condition's hidden layer: (rows, W)."""
        total = torch.zeros(1, device=self._device)
        for name, values in (("angle", [r.t for r in rows]), ("target", [r.s for r in rows])):
            features = torch.tensor(noise.angle_features(values), dtype=torch.float32)
            weight = self._weights[f"condition.{name}.weight"]
            total = total + features.to(self._device) @ weight.T
        return total

    def modulations(self, condition: Tensor, angles: Tensor | None) -> Modulations:
        """Of every robot and sampler row: condition (B, size), angles (rows, W) or None."""
        hidden = self._linear("condition.history", condition)[:, None]
        if angles is not None:
            hidden = hidden + angles
        embedded = functional.silu(self._linear("condition.out", functional.silu(hidden)))
        every = functional.linear(embedded, self._modulation, self._modulation_bias)
        width, layers = self.sizes.width, self.sizes.layers
        blocks = every[..., : 6 * width * layers].unflatten(-1, (layers, 2, 3 * width))
        offset = self._weights["token.bias"].expand(len(condition), width)
        if self.sizes.history_tokens:
            offset = offset + condition @ self._weights["history.weight"].T
        return Modulations(blocks, every[..., 6 * width * layers :], offset.contiguous())

    def tiles(self, robots: int, count: int, processors: int) -> Tiles:
        """How this network's work on (robots, count) candidates is cut."""

        def choose(units: int) -> Tile:
            return choose_tile(
                tokens=self.tokens, width=self.sizes.width, units=units, robots=robots,
                count=count, processors=processors, precision=self.precision.inner,
            )  # fmt: skip

        chunks = -(-self.sizes.mlp // chunk(self.sizes.mlp, choose(1).columns))
        return Tiles(choose(self.sizes.heads), choose(chunks), choose(1))

    def evaluate(
        self,
        noisy: Tensor,
        clean: Tensor,
        modulations: Modulations,
        row: int,
        streams: tuple[Stream, Stream],
        tiles: Tiles,
        *,
        first: int,
    ) -> Stream:
        """The stream before the last layer, of candidates first .. first + C - 1.

        noisy (B, N, F, X), clean (B, N, F, U); states and actions for the objective. row: of the
        modulations. streams: workspace of C
        candidates, with parts for the splits of the tiles; the result is one of them.
        """
        now, following = streams
        embedding(
            noisy, clean, self._embedding, modulations.offset, now.x, first=first,
            tile=tiles.ends, precision=self.precision.ends,
        )  # fmt: skip
        parts = 0
        for layer, (attend, feed) in enumerate(self._blocks):
            own = modulations.blocks[:, row, layer]
            attention(
                now.x, now.parts[:parts], own[:, 0], attend, following.x, following.parts,
                heads=self.sizes.heads, tile=tiles.attention, precision=self.precision.inner,
            )  # fmt: skip
            now, following, parts = following, now, _parts(tiles.attention)
            mlp(
                now.x, now.parts[:parts], own[:, 1], feed, following.x, following.parts,
                tile=tiles.mlp, precision=self.precision.inner,
            )  # fmt: skip
            now, following, parts = following, now, _parts(tiles.mlp)
        return Stream(now.x, now.parts[:parts])

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _matrix(self, name: str, dtype: torch.dtype = torch.float32) -> Tensor:
        """A linear map's weights, (inputs, outputs)."""
        return self._weights[f"{name}.weight"].T.contiguous().to(dtype)

    def _pack_embedding(self, first: int, second: int) -> EmbeddingWeights:
        # Features of a token are step after step, one source before the other: taken apart.
        weight = self._weights["token.weight"].unflatten(1, (self.sizes.patch, first + second))
        apart = weight.split([first, second], dim=-1)
        noisy, clean = (part.flatten(1).T.contiguous() for part in apart)
        return EmbeddingWeights(noisy, clean, self._weights["positions"])

    def _pack_block(self, layer: int) -> tuple[AttentionWeights, MlpWeights]:
        names = [f"blocks.{layer}.{name}" for name in ("qkv", "projection", "mlp_in", "mlp_out")]
        packed = [
            part
            for name in names
            for part in (self._matrix(name, self.precision.storage), self._weights[f"{name}.bias"])
        ]
        return AttentionWeights(*packed[:4]), MlpWeights(*packed[4:])


def _parts(tile: Tile) -> int:
    return tile.splits if tile.splits > 1 else 0
