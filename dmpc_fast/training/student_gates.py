"""What is logged while a student is trained: is it the teacher's map, and is it as diverse?"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class GateSums(NamedTuple):
    """Sums over examples and valid steps, (X,) each, which add up over batches and processes.

    error: squared difference of student and teacher from the same noise. student, teacher: squared
    difference of two samples of each at the same state, twice the variance given the state.
    """

    error: Tensor
    student: Tensor
    teacher: Tensor

    @classmethod
    def zero(cls, like: Tensor) -> GateSums:
        return cls(*(torch.zeros(like.shape[-1], device=like.device) for _ in cls._fields))

    def add(
        self, landed: Tensor, landed_other: Tensor, wanted: Tensor, wanted_other: Tensor,
        valid: Tensor,
    ) -> GateSums:  # fmt: skip
        """With samples (N, F, X) of student and teacher, each from two noises; valid (N, F)."""

        def total(first: Tensor, second: Tensor) -> Tensor:
            return ((first - second).square() * valid[..., None]).sum((0, 1))

        return GateSums(
            self.error + total(landed, wanted),
            self.student + total(landed, landed_other),
            self.teacher + total(wanted, wanted_other),
        )


def gate_figures(sums: GateSums) -> dict[str, float]:
    """paired_error: mean squared error over the teacher-teacher split's, 0 is perfect.

    spread, spread_low, spread_high: the student's variance given the state over the teacher's,
    pooled over dimensions, and the least and greatest of single ones.
    """
    floor = torch.finfo(torch.float32).tiny
    ratios = sums.student / sums.teacher.clamp(min=floor)
    return {
        "paired_error": float(sums.error.sum() / sums.teacher.sum().clamp(min=floor)),
        "spread": float(sums.student.sum() / sums.teacher.sum().clamp(min=floor)),
        "spread_low": float(ratios.min()),
        "spread_high": float(ratios.max()),
    }
