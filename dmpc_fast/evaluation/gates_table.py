"""The gates as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def table_lines(report: dict[str, Any]) -> Iterator[str]:
    """A report's gates and curves for a person to read."""
    settings = report["settings"]
    student, teacher = settings["steps"]["student"], settings["steps"]["teacher"]
    yield (
        f"student {settings['student']} at {student[0]} + {student[1]} steps against teacher "
        f"{settings['teacher']} at {teacher[0]} + {teacher[1]}, {settings['starts']} states, "
        f"{settings['candidates']} candidates"
    )
    yield f"{'gate':24} {'value':>8} {'90 % interval':>18} {'split':>8} {'bound':>14}"
    for gate in report["gates"]:
        low, high = gate["interval_90"]
        interval = f"{low:.3f} to {high:.3f}"
        split = "" if gate["split"] is None else f"{gate['split']:.3f}"
        yield (
            f"{gate['name']:24} {gate['value']:8.3f} {interval:>18} {split:>8} "
            f"{bound_text(gate):>14}  {'pass' if gate['passed'] else 'FAIL'}"
            f"{'' if gate['target'] else ' (no target)'}"
        )
    for name, part in (report["realized"] or {}).items():
        if "mean_realized" in part:
            rank = part["rank_correlation"]
            yield (
                f"realised return, {name}: predicted {part['mean_predicted']:.1f}, realised "
                f"{part['mean_realized']:.1f}, absolute error {part['mean_absolute_error']:.1f}, "
                f"rank correlation {'none' if rank is None else f'{rank:.2f}'}, "
                f"{part['plans']} plans"
            )
    if not report["enough_samples"]:
        yield "too few samples for a variance ratio: take more states or candidates"
    yield f"gates that are targets: {'passed' if report['passed'] else 'FAILED'}"


def bound_text(gate: dict[str, Any]) -> str:
    """A gate's bound in words."""
    low, high = gate["bound"]
    if low is None:
        return f"at most {high:.2f}"
    return f"at least {low:.2f}" if high is None else f"{low:.2f} to {high:.2f}"
