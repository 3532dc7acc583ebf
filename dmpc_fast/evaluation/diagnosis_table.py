"""A diagnosis as a short table for a person to read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dmpc_fast.evaluation.verdict import FAULTS

#: Keys of a verdict and how its table calls them.
_ROWS = {
    "starts": "starts",
    "random_candidate": "return of any candidate",
    "predicted": "of the planner's choice",
    "true_states": "  had it true states",
    "true_rewards": "  and true rewards",
    "oracle": "of the best by truth",
    "unresolved": "differences got wrong, share",
}
_EXECUTED = {
    "gain_of_predicted": "of the planner's choice",
    "gain_of_true_states": "  had it true states",
    "gain_of_true_rewards": "  and true rewards",
    "gain_of_oracle": "of the best by truth",
}
_RANKS = {
    "J_predicted_with_return": "J on predicted states with the true return",
    "J_true_states_with_return": "J on true states with the true return",
    "true_rewards_with_return": "true rewards + value with the true return",
    "repeatability": "true return with itself (two continuations)",
    "reward": "predicted reward with the true one",
    "value": "predicted value with what followed",
}


def table_lines(report: dict[str, Any]) -> Iterator[str]:
    """The lines of the table of a `Diagnosis`' report."""
    settings, latency = report["settings"], report["latency"]
    yield f"{settings['model']} in {settings['environment']}: {_times(settings)}"
    yield ""
    yield f"{'':30}" + "".join(f"{name:>20}" for name in report["verdict"])
    for name, label in _ROWS.items():
        yield f"{label:30}" + "".join(
            f"{part[name]:20.2f}" if isinstance(part[name], float) else f"{part[name]:20d}"
            for part in report["verdict"].values()
        )
    yield ""
    yield "true return lost by"
    for fault in ("dynamics", "objective", "reward", "value", "diversity", "time"):
        label = FAULTS.get(fault, f"  of it by the {fault}")
        yield f"{label:38}" + "".join(
            _cost(part["costs"][fault]) for part in report["verdict"].values()
        )
    yield ""
    yield "gain over any candidate, where only the first chunk of the choice runs"
    for name, label in _EXECUTED.items():
        yield f"{label:38}" + "".join(
            _gain(part["executed"][name]) for part in report["verdict"].values()
        )
    yield ""
    ranks = report["calibration"]["rank_correlation"]
    for name in _RANKS:
        if ranks[name]["mean"] is not None:
            yield f"rank correlation, {_RANKS[name]:48} {ranks[name]['mean']:6.2f}"
    errors = report["dynamics"]
    last = [step for step in range(settings["horizon"]) if errors["executed"][step]][-1]
    row = {
        name: errors[name][last][1] for name in ("executed", "unchanged", "spread", "difference")
    }
    yield (
        f"dynamics error at step {last + 1} (std of data): {row['executed']:.3f}, of no change "
        f"{row['unchanged']:.3f}; candidates differ by {row['spread']:.3f}, known to "
        f"{row['difference']:.3f}"
    )
    yield (
        f"plan {latency['median_ms']:.1f} ms median, {latency['p99_ms']:.1f} ms p99, of "
        f"{latency['period_ms']:.1f} ms"
    )
    yield ""
    for name, part in report["verdict"].items():
        yield f"{name}: {part['text']}"


def _times(settings: dict[str, Any]) -> str:
    return (
        f"{len(settings['starts'])} starts of {settings['episodes']} episodes, N = "
        f"{settings['num_samples']} of {settings['candidates']} candidates; returns are discounted, "
        f"over {settings['horizon']} + {settings['continuation']} steps"
    )


def _cost(cost: dict[str, Any]) -> str:
    return _gain(cost)[:-1] + ("*" if cost["counts"] else " ")


def _gain(figure: dict[str, Any]) -> str:
    return f"{figure['mean']:11.2f} ± {figure['standard_error']:5.2f} "
