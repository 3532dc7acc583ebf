"""What computes the blocks of networks in training: torch, or fused kernels where they can run.

Triton is imported only where it was asked for and can run.
"""

from __future__ import annotations

import torch
from torch import nn

from dmpc_fast import triton_availability
from dmpc_fast.spec import ModelSpec
from dmpc_fast.training.settings import TrainingSettings
from dmpc_fast.triton_availability import KernelsUnavailableError


def check_kernels(spec: ModelSpec, settings: TrainingSettings, device: torch.device) -> None:
    """Raises KernelsUnavailableError where `settings` ask for what cannot run, with the reason."""
    if settings.kernels == "torch":
        return
    reason = triton_availability.refusal()
    if reason is None and device.type != "cuda" and not triton_availability.interpreted():
        reason = f"they run on a CUDA device, not on {device}"
    if reason is None:
        reason = _size_refusal(spec, settings)
    if reason is not None:
        raise KernelsUnavailableError(f"kernels 'triton' are unavailable for training: {reason}")


def use_kernels(
    network: nn.Module, spec: ModelSpec, settings: TrainingSettings, device: torch.device
) -> None:
    """Let what `settings` name compute a network's blocks. Raises as `check_kernels`."""
    check_kernels(spec, settings, device)
    if settings.kernels == "triton":
        from dmpc_fast.training.fused_block import fuse

        fuse(network, _precision(settings))


def _precision(settings: TrainingSettings) -> str:
    """Products of float32 are as torch's own are, which a user may have allowed to be TF32."""
    if settings.precision == "bf16":
        return "bf16"
    return "float32" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def _size_refusal(spec: ModelSpec, settings: TrainingSettings) -> str | None:
    from dmpc_fast.training.fused_block import size_refusal

    for stage in settings.steps:
        sizes = spec.stages[stage]
        reason = size_refusal(spec.horizon // sizes.patch, sizes.width, _precision(settings))
        if reason is not None:
            return f"stages.{stage}: {reason}"
    return None
