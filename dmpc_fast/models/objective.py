"""What the objective networks' outputs mean."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from dmpc_fast.objectives import Learned


def decode_objective(
    outputs: Tensor, *, reward_mean: Tensor, reward_scale: Tensor, value_mean: Tensor,
    value_scale: Tensor,
) -> Learned:  # fmt: skip
    """Outputs (M, ..., F, 3) of M networks in environment units.

    Per step: normalised reward, logit of going on, and a normalised value that counts at the last
    step alone. The statistics are those of the model, one element each.
    """
    reward, logit, value = outputs.unbind(-1)
    return Learned(
        reward * reward_scale + reward_mean,
        functional.logsigmoid(logit),
        value[..., -1] * value_scale + value_mean,
    )
