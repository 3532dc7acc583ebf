"""Which proposals can denoise actions that were re-noised below pure noise."""

from __future__ import annotations

from dmpc_fast.spec import ModelSpec


def can_renoise(spec: ModelSpec) -> bool:
    """False for a student that learned to jump from pure noise alone, by its own account."""
    made = spec.provenance.get("distillation")
    proposal = made.get("proposal") if isinstance(made, dict) else None
    return not (isinstance(proposal, dict) and proposal.get("pure_noise") == 1.0)


def check_renoising(spec: ModelSpec, option: str) -> None:
    """Raise ValueError, which names `option`, unless the proposal of `spec` can do it."""
    if not can_renoise(spec):
        raise ValueError(
            f"{option} re-noises actions, which mean nothing to this model: its proposal is a student "
            "that jumps from pure noise alone (its provenance has pure_noise 1); distil one with "
            "--loss proposal.pure_noise=0.5"
        )
