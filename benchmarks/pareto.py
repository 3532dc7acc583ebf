"""Return against latency: what every number of denoising steps costs and what it is worth.

    taskset -c 1 python -m benchmarks.pareto hopper walker2d \
      --scores benchmarks/results/distill/steps --out benchmarks/results/distill/pareto

Times one plan of each shipped model by the steps of its proposal, those of its dynamics being the
file's own, N = 64, one thread, in turns in one run; processor time, so that other work counts little.
A student's networks are its teacher's, so one file serves both. Scores are those of `dmpc-fast evaluate
--json` files named MODEL-ddimP.json for P steps of the teacher, MODEL-student.json, MODEL-studentP.json
for a student that learned to jump from all of its teacher's angles and re-noises between P jumps, and
MODEL-regression2.json for a proposal trained at two angles alone; an arm without a file is left out.
Writes OUT.json and OUT.png.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from dmpc_fast.assets import resolve
from dmpc_fast.backends import registry
from dmpc_fast.backends.base import CandidateGroup, PlanRequest
from dmpc_fast.cli.bench import machine
from dmpc_fast.latency import Budget, measure
from dmpc_fast.model_file import load_model
from dmpc_fast.spec import SamplerSpec

#: Label of an arm, the word for it in the names of score files, and its steps of the proposal.
ARMS = (
    *((f"teacher {steps}", f"ddim{steps}", steps) for steps in (32, 8, 5, 4, 2, 1)),
    ("student 1", "student", 1),
    *((f"all angles {steps}", f"student{steps}", steps) for steps in (1, 2, 4)),
    ("regression 2", "regression2", 2),
)
#: Kinds of arms: how they are drawn, and what the legend calls them.
KINDS = {
    "teacher": ("o-", "teacher, by DDIM steps"),
    "student": ("D", "distilled student"),
    "all angles": ("s--", "student of all angles, re-noised between steps"),
    "regression": ("^", "regression in two steps"),
}


def latencies(name: str, dtype: str, plans: int) -> dict[str, dict[str, float]]:
    """Milliseconds of a plan by arm: the median."""
    model = load_model(resolve(name))
    engine = registry.create("cpu", model, dtype=dtype, threads=1)
    spec = model.spec
    states = model.normalizer.state.mean[None, None].astype(np.float32)

    def plan(steps: int) -> Any:
        request = PlanRequest(
            states=states,
            actions=np.zeros((1, 0, spec.action_size), np.float32),
            mask=np.zeros((1, 0), np.float32),
            context=np.zeros((1, 0), np.float32),
            seed=7,
            robots=np.zeros(1, np.int64),
            plan_index=np.zeros(1, np.int64),
            groups=(CandidateGroup(64, SamplerSpec.uniform(steps), None),),
        )
        return lambda: engine.plan(request)

    runs = {label: plan(steps) for label, _, steps in ARMS}
    found = measure(runs, Budget(plans), clock=time.process_time_ns)
    summaries = {label: samples.summary() for label, samples in found.items()}
    return {label: {"median_ms": 1e3 * summary.median_s} for label, summary in summaries.items()}


def by_steps(timed: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Milliseconds of every arm from those of the arms in an earlier report, by the steps they take."""
    steps = {label: count for label, _, count in ARMS}
    known = {steps[label]: row["median_ms"] for label, row in timed.items()}
    return {label: {"median_ms": known[count]} for label, count in steps.items() if count in known}


def scored(name: str, folder: Path) -> dict[str, tuple[float, float]]:
    """Mean score and its error by arm, of those that there are files for."""
    found = {}
    for label, word, _ in ARMS:
        path = folder / f"{name}-{word}.json"
        if path.exists():
            score = json.loads(path.read_text("utf-8"))["summary"]["score"]
            found[label] = (score["mean"], score["standard_error"])
    return found


def plot(models: dict[str, Any], path: Path) -> None:
    """A panel per model: score over milliseconds, the teacher's arms joined, the student apart."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullLocator

    figure, panels = plt.subplots(
        1, len(models), figsize=(5.5 * len(models), 4), sharey=True, constrained_layout=True
    )
    for axis, (name, arms) in zip(np.atleast_1d(panels), models.items(), strict=True):
        for kind, (marker, name_of_kind) in KINDS.items():
            rows = {label: row for label, row in arms.items() if label.startswith(kind)}
            if not rows:
                continue
            axis.errorbar(
                [row["median_ms"] for row in rows.values()],
                [row["score"][0] for row in rows.values()],
                [row["score"][1] for row in rows.values()],
                fmt=marker,
                capsize=3,
                label=name_of_kind,
                markersize=8 if kind == "student" else 5,
                linewidth=1,
            )
            for label, row in rows.items():
                axis.annotate(
                    label.removeprefix(kind + " "),
                    (row["median_ms"], row["score"][0]),
                    xytext=(6, 6 if kind == "teacher" else -14),
                    textcoords="offset points",
                    fontsize=8,
                )
        axis.axvline(8, color="grey", linestyle=":", linewidth=1, label="control period")
        axis.set(xscale="log", xlabel="ms per plan (median, one thread, bf16)", title=name)
        times = [row["median_ms"] for row in arms.values()]
        axis.set_xlim(0.7 * min(times), 1.5 * max(times))
        axis.set_xticks(
            [t for t in (1, 2, 5, 10, 20, 50) if 0.7 * min(times) < t < 1.5 * max(times)]
        )
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(NullLocator())
        axis.grid(True, which="both", alpha=0.2)
    np.atleast_1d(panels)[0].set_ylabel("D4RL-normalised score, mean ± s.e.")
    np.atleast_1d(panels)[0].legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--scores", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--plans", type=int, default=200, help="of each arm")
    parser.add_argument(
        "--times",
        type=Path,
        metavar="REPORT",
        help="take the milliseconds from an earlier report in place of timing anew: arms of as many "
        "steps are the same work",
    )
    args = parser.parse_args()

    earlier = None if args.times is None else json.loads(args.times.read_text("utf-8"))
    models: dict[str, Any] = {}
    for name in args.models:
        found = scored(name, args.scores)
        if earlier is None:
            timed = latencies(name, args.dtype, args.plans)
        else:
            timed = by_steps(earlier["models"][name])
        models[name] = {label: {**timed[label], "score": found[label]} for label in found}
    on = machine() if earlier is None else earlier["machine"]
    dtype = args.dtype if earlier is None else earlier["dtype"]
    report = {"machine": on, "dtype": dtype, "threads": 1, "models": models}
    args.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    plot(models, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
