"""What limits the score, in the terms of the method's authors, and what each fault costs.

The method breaks (Zhou et al. 2024) where diffusion models are badly trained, the value is inaccurate,
the proposals have too little diversity, or sampling is too slow for the robot. Each has a price in
true return, measured on the same candidates of the same starts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dmpc_fast.evaluation.calibration import chosen_return, gain_curves, oracle_return
from dmpc_fast.evaluation.dynamics_error import unresolved_share
from dmpc_fast.evaluation.probe import Probe
from dmpc_fast.statistics import mean_and_error

#: A cost counts if it exceeds so many of its standard errors over starts ...
SIGNIFICANCE = 2.0
#: ... and this share of the return of the planner's choice, in magnitude.
MATERIAL = 0.02
#: The dynamics model limits, whatever it costs, where it gets more than this share of the differences
#: between candidates wrong: then no objective can rank them, and a bad one hides it.
UNRESOLVED = 0.5

FAULTS = {
    "dynamics": "diffusion dynamics badly trained",
    "objective": "value or reward inaccurate",
    "diversity": "too little diversity in the proposals",
    "time": "sampling too slow",
}


def costs(probes: Sequence[Probe], samples: int, affordable: int) -> dict[str, np.ndarray]:
    """Return lost at each start, (starts,), by each of `FAULTS` and by the objective's two halves.

    dynamics: what the objective would choose better, had it the true states. objective: what the
    oracle would choose better than that; reward, value: its share by the predicted rewards and ends,
    and by the value of the last state. diversity: what the oracle would gain by proposals twice as far
    from their mean. time: what is lost by choosing from `affordable` candidates, those that a control
    period suffices for, instead of `samples`.
    """
    chosen = {choice: curve[:, 0] for choice, curve in gain_curves(probes, [samples]).items()}
    wide = np.array([oracle_return(probe.wide_returns, samples) for probe in probes])
    narrow = np.array([oracle_return(probe.returns[:, :samples], samples) for probe in probes])
    few = np.array([chosen_return(probe, "predicted", affordable) for probe in probes])
    return {
        "dynamics": chosen["true_states"] - chosen["predicted"],
        "objective": chosen["oracle"] - chosen["true_states"],
        "reward": chosen["true_rewards"] - chosen["true_states"],
        "value": chosen["oracle"] - chosen["true_rewards"],
        "diversity": wide - narrow,
        "time": chosen["predicted"] - few,
    }


def verdict(
    probes: Sequence[Probe],
    *,
    samples: int,
    scale: np.ndarray,
    period_s: float,
    plan_p99_s: float,
) -> dict[str, Any]:
    """The returns of the choices, the cost of each fault and which of them limit, as plain numbers.

    samples: the planner's N. scale (S,): standard deviations of states. plan_p99_s: 99th percentile
    of a plan's seconds, to be held against the control period `period_s`; plans are taken to cost in
    proportion to N.
    """
    late = plan_p99_s > period_s
    affordable = max(1, math.floor(samples * period_s / plan_p99_s)) if late else samples
    curves = gain_curves(probes, [1, samples])
    random = curves["predicted"][:, 0]
    report: dict[str, Any] = {
        "starts": len(probes),
        "random_candidate": float(random.mean()),
        **{choice: float(curve[:, 1].mean()) for choice, curve in curves.items()},
        "gain_of_choice": _figure(curves["predicted"][:, 1] - random),
        "gain_of_oracle": _figure(curves["oracle"][:, 1] - random),
        "affordable_samples": affordable,
        "unresolved": _median([unresolved_share(probe, scale) for probe in probes]),
    }
    size = max(abs(report["predicted"]), 1e-9)
    found = {}
    for fault, lost in costs(probes, samples, affordable).items():
        mean, error = mean_and_error(lost)
        counts = mean > SIGNIFICANCE * error and mean > MATERIAL * size and len(probes) > 1
        found[fault] = {**_figure(lost), "share": mean / size, "counts": bool(counts)}
    report["costs"] = found
    report["executed"] = _executed(probes, samples)
    limits = [fault for fault in FAULTS if found[fault]["counts"]]
    limits.sort(key=lambda fault: -found[fault]["mean"])
    for fault, seen in (("dynamics", report["unresolved"] > UNRESOLVED), ("time", late)):
        if seen and fault not in limits:
            limits.append(fault)
    report["limits"] = limits
    report["text"] = _sentence(report, limits)
    return report


def _executed(probes: Sequence[Probe], samples: int) -> dict[str, Any]:
    """Gains over any candidate where only the first chunk runs and the proposal takes over."""
    curves = gain_curves(probes, [1, samples], executed=True)
    random = curves["predicted"][:, 0]
    gains = {f"gain_of_{name}": _figure(curve[:, 1] - random) for name, curve in curves.items()}
    return {"random_candidate": float(random.mean()), **gains}


def _median(values: Sequence[float]) -> float:
    """Median of what is a number; 0 where nothing is."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.median(known)) if known else 0.0


def _figure(values: np.ndarray) -> dict[str, float]:
    return dict(mean_and_error(values)._asdict())


def _sentence(report: dict[str, Any], limits: Sequence[str]) -> str:
    if not limits:
        possible = report["oracle"] - report["predicted"]
        return (
            f"no cost counts: choosing by truth would gain {possible:.2f} on {report['predicted']:.2f}, "
            "so what is left to gain lies outside these proposals"
        )
    return "; ".join(_limit(report, fault) for fault in limits)


def _limit(report: dict[str, Any], fault: str) -> str:
    """A fault that limits, with its price or with what else gives it away."""
    cost = report["costs"][fault]
    price = "its cost does not count"
    if cost["counts"]:
        share = 100 * cost["share"]
        price = (
            f"costs {cost['mean']:.2f} ± {cost['standard_error']:.2f}, {share:.0f} % of "
            f"{report['predicted']:.2f}"
        )
    if fault == "dynamics":
        price += f"; {100 * report['unresolved']:.0f} % of the candidates' differences wrong"
    if fault == "time":
        price += f"; the control period suffices for {report['affordable_samples']} candidates"
    return f"{FAULTS[fault]} ({price})"
