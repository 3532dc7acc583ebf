"""Which weights fine-tuning changes: all, those of the last layers, or low-rank factors beside them.

Whatever the method, the file that comes out is that of the network alone: factors are merged into the
weights that they stand beside.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from dmpc_fast.models.network import TrajectoryTransformer

METHODS = ("full", "last_layers", "lora")
_FACTORS = ("lora_down", "lora_up")


@dataclass(frozen=True)
class Adaptation:
    """How a trained network is fine-tuned.

    method: ``full`` changes all weights; ``last_layers`` those of the last `last_layers` blocks and
    the output layer; ``lora`` none but adds to every linear map W of the blocks a product of two
    factors of rank `lora_rank`, W + lora_alpha / lora_rank * up @ down, `up` zero at first (Hu et al.
    2022). Raises ValueError for an unknown method and for sizes that are not positive.
    """

    method: Literal["full", "last_layers", "lora"] = "full"
    last_layers: int = 1
    lora_rank: int = 8
    lora_alpha: float = 16.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {METHODS}, got {self.method!r}")
        for name in ("last_layers", "lora_rank"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
        if not (math.isfinite(self.lora_alpha) and self.lora_alpha > 0):
            raise ValueError(f"lora_alpha must be finite and positive, got {self.lora_alpha}")

    def prepare(self, network: TrajectoryTransformer) -> None:
        """Let an optimiser change only what the method does. Raises ValueError for more layers than
        the network has."""
        if self.method == "full":
            return
        blocks = network.blocks
        if self.method == "last_layers" and self.last_layers > len(blocks):
            raise ValueError(
                f"last_layers must be at most the network's {len(blocks)}, got {self.last_layers}"
            )
        network.requires_grad_(False)
        if self.method == "last_layers":
            for module in (*list(blocks)[-self.last_layers :], network.final):
                module.requires_grad_(True)
            return
        for block in blocks:
            for name, module in list(block.named_children()):
                if isinstance(module, nn.Linear):
                    setattr(block, name, LowRankLinear(module, self.lora_rank, self.lora_alpha))

    @classmethod
    def from_provenance(cls, provenance: dict[str, Any]) -> Adaptation:
        """How the file with this provenance was fine-tuned; all weights where it does not say.

        Raises ValueError where the entry is not one of this version's.
        """
        entry = provenance.get("adaptation")
        if entry is None:
            return cls()
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(entry, dict) or set(entry) != names:
            raise ValueError(
                f"provenance.adaptation must be an object with the keys {sorted(names)}, "
                f"got {entry!r:.200}"
            )
        return cls(**entry)


class LowRankLinear(nn.Linear):
    """A linear map whose weight and bias are kept, and two factors that learn beside them."""

    def __init__(self, plain: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__(
            plain.in_features,
            plain.out_features,
            bias=plain.bias is not None,
            device=plain.weight.device,
        )
        self.load_state_dict(plain.state_dict())
        self.requires_grad_(False)
        rank = min(rank, plain.in_features, plain.out_features)
        self.scale = alpha / rank
        self.lora_down = nn.Parameter(plain.weight.new_empty(rank, plain.in_features))
        self.lora_up = nn.Parameter(plain.weight.new_zeros(plain.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        change = functional.linear(functional.linear(x, self.lora_down), self.lora_up)
        return super().forward(x) + self.scale * change

    def effective(self) -> Tensor:
        """The weight (out, in) that the layer amounts to, differentiable by the factors."""
        return self.weight + self.scale * (self.lora_up @ self.lora_down)

    def merged(self) -> Tensor:
        """The weight (out, in) of the one linear map that does the same."""
        # In double, so that the sum is rounded once.
        change = self.scale * self.lora_up.double() @ self.lora_down.double()
        return (self.weight.double() + change).to(self.weight.dtype)


def load_trained(networks: nn.ModuleList, tensors: dict[str, Tensor]) -> None:
    """Trained weights into networks that may have factors beside them, which stay as they are."""
    factors = {name: value for name, value in networks.state_dict().items() if _is_factor(name)}
    networks.load_state_dict({**factors, **tensors})


def merged_state(networks: nn.ModuleList) -> dict[str, Tensor]:
    """The weights by which networks without factors do what `networks` do."""
    state = {name: t for name, t in networks.state_dict().items() if not _is_factor(name)}
    with torch.no_grad():
        for name, module in networks.named_modules():
            if isinstance(module, LowRankLinear):
                state[f"{name}.weight"] = module.merged()
    return state


def prepare_members(networks: nn.ModuleList, adaptation: Adaptation) -> None:
    """`Adaptation.prepare` for every member of a stage."""
    for network in networks:
        adaptation.prepare(cast(TrajectoryTransformer, network))


def _is_factor(name: str) -> bool:
    return name.rpartition(".")[2] in _FACTORS
