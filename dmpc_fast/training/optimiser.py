"""The optimisers of a stage: AdamW, or Muon for the matrices of the blocks and AdamW for the rest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dmpc_fast.training.muon import Float32Muon
from dmpc_fast.training.settings import TrainingSettings

#: Names of what each optimiser remembers of a parameter.
ADAMW_MOMENTS = ("exp_avg", "exp_avg_sq")
MUON_MOMENT = "momentum_buffer"
#: Parts of the network whose matrices lie between hidden layers.
HIDDEN = (".blocks.", ".condition.out.", ".final.modulation.")


class StageOptimiser:
    """One optimiser step over all parameters of `networks` that may change.

    Muon (Jordan et al. 2024; Liu et al. 2025) makes each update of a matrix orthogonal, scaled so
    that it is as large as one of AdamW at the same learning rate. It is for matrices between hidden
    layers: first and last layers, biases and positions are AdamW's in either case.
    """

    def __init__(self, networks: nn.ModuleList, stage: str, settings: TrainingSettings) -> None:
        self._named = {n: p for n, p in networks.named_parameters() if p.requires_grad}
        chosen = {
            name
            for name, parameter in self._named.items()
            if stage in settings.muon and parameter.ndim == 2 and any(h in name for h in HIDDEN)
        }
        rest = [p for n, p in self._named.items() if n not in chosen]
        self._optimisers: list[torch.optim.Optimizer] = []
        groups = [
            {"params": [p for p in rest if p.ndim >= 2], "weight_decay": settings.weight_decay},
            {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        ]
        if rest:
            self._optimisers.append(
                torch.optim.AdamW(groups, lr=settings.rate(stage), betas=(0.9, 0.99), fused=True)
            )
        if chosen:
            matrices = [p for n, p in self._named.items() if n in chosen]
            rate, decay = settings.rate(stage), settings.weight_decay
            self._optimisers.append(
                torch.optim.Muon(
                    matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"
                )
                if settings.precision == "bf16"
                else Float32Muon(matrices, lr=rate, weight_decay=decay)
            )

    @property
    def parameters(self) -> list[nn.Parameter]:
        return list(self._named.values())

    def step(self, learning_rate: float) -> None:
        """Change the parameters by their gradients, which are gone afterwards."""
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Copies of all that is remembered of each parameter, by its name."""
        tensors = {}
        for name, parameter in self._named.items():
            for optimiser in self._optimisers:
                for key, value in optimiser.state.get(parameter, {}).items():
                    tensors[f"{_STORED.get(key, key)}.{name}"] = value.clone()
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Go on from `state`."""
        for optimiser in self._optimisers:
            muon = isinstance(optimiser, (torch.optim.Muon, Float32Muon))
            moments = (MUON_MOMENT,) if muon else ADAMW_MOMENTS
            owned = {id(p) for group in optimiser.param_groups for p in group["params"]}
            for name, parameter in self._named.items():
                if id(parameter) not in owned or f"{moments[0]}.{name}" not in tensors:
                    continue
                state = {m: tensors[f"{m}.{name}"].to(parameter.device) for m in moments}
                if not muon:
                    state["step"] = tensors[f"{_STORED['step']}.{name}"]
                optimiser.state[parameter] = state


#: The name in a checkpoint, where it is not torch's own.
_STORED = {"step": "optimiser_step"}
