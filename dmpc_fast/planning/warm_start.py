"""Candidates that start from the previous plan instead of from pure noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dmpc_fast.backends.base import CandidateGroup
from dmpc_fast.spec import SamplerSpec


@dataclass(frozen=True)
class WarmStart:
    """How much of the previous plan is kept.

    angle: noise angle in radians, in (0, pi/2), to which the shifted previous plan is re-noised;
    small keeps it. fresh: share of the candidates, in [0, 1), that start from pure noise as ever.
    """

    angle: float = 0.8
    fresh: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 < self.angle < np.pi / 2:
            raise ValueError(f"WarmStart.angle must lie in (0, pi/2), got {self.angle!r}")
        if not 0.0 <= self.fresh < 1.0:
            raise ValueError(f"WarmStart.fresh must lie in [0, 1), got {self.fresh!r}")

    def groups(
        self, cold: CandidateGroup, sampler: SamplerSpec, previous: np.ndarray
    ) -> tuple[CandidateGroup, ...]:
        """The candidates of `cold`, shared out between fresh and warm ones.

        sampler: the proposal's. previous: shifted plans (B, F, A), environment units.
        """
        fresh = min(round(self.fresh * cold.count), cold.count - 1)
        count = cold.count - fresh
        below = tuple(angle for angle in sampler.angles if angle < self.angle)
        warm = CandidateGroup(
            count,
            SamplerSpec(sampler.rule, (self.angle, *below)),
            cold.dynamics,
            np.repeat(previous[:, None], count, axis=1),
        )
        if fresh == 0:
            return (warm,)
        return (CandidateGroup(fresh, cold.proposal, cold.dynamics), warm)


def shifted(plans: np.ndarray, executed: np.ndarray) -> np.ndarray:
    """Plans (B, F, A) without their first `executed` (B,) actions; the last one fills the end."""
    horizon = plans.shape[1]
    steps = np.minimum(np.arange(horizon) + executed[:, None], horizon - 1)
    return np.ascontiguousarray(np.take_along_axis(plans, steps[..., None], axis=1))
