"""Tails of the engine's plan beside a spin loop of the same length: what is ours, what the machine's.

python -m benchmarks.tail [MODEL] --out benchmarks/results/latency/tail.json [--plans 100000]

Plans and spins alternate in one run, in random order, both on one processor. The plot shows how many
are slower than a time (complementary distribution), relative to each one's median.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.flops import plan_work
from benchmarks.peaks import fraction
from dmpc_fast.assets import resolve
from dmpc_fast.cli.bench import machine
from dmpc_fast.latency import Budget, Samples, SpinReference, measure
from dmpc_fast.model_file import load_model
from dmpc_fast.planning.planner import Planner
from dmpc_fast.spec import SamplerSpec


def plot(samples: dict[str, Samples], path: Path) -> None:
    """Share of samples above a time over the median, both axes logarithmic."""
    figure, axis = plt.subplots(figsize=(7, 4.5), constrained_layout=True)
    for name, taken in samples.items():
        values = np.sort(taken.nanoseconds) / np.median(taken.nanoseconds)
        above = 1 - np.arange(len(values)) / len(values)
        axis.step(values, above, where="post", label=name)
    axis.set(xscale="log", yscale="log", xlabel="time / its median", ylabel="share that is slower")
    axis.grid(True, which="both", alpha=0.2)
    axis.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", default="hopper")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--steps", default="1+1")
    parser.add_argument("--num-samples", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plans", type=int, default=100_000)
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    proposal, dynamics = map(int, args.steps.split("+"))
    model = load_model(resolve(args.model))
    planner = Planner.load(
        model,
        backend="cpu",
        dtype=args.dtype,
        num_samples=args.num_samples,
        threads=args.threads,
        action_chunk=1,
        proposal_sampler=SamplerSpec.uniform(proposal),
        dynamics_sampler=SamplerSpec.uniform(dynamics),
    )
    if args.threads == 1:
        os.sched_setaffinity(0, {args.cpu})
    observation = model.normalizer.state.mean
    variants = {"plan": lambda: planner.act(observation), "spin": SpinReference("plan", args.cpu)}
    samples = measure(variants, Budget(args.plans))
    summaries = {name: taken.summary() for name, taken in samples.items()}
    flops = plan_work(model.spec, args.num_samples, proposal, dynamics)["plan"].flops
    report = {
        "machine": machine(),
        "settings": {
            "model": args.model,
            "sha256": model.sha256,
            "dtype": args.dtype,
            "steps": args.steps,
            "num_samples": args.num_samples,
            "threads": args.threads,
        },
        "rows": {name: asdict(summary) for name, summary in summaries.items()},
        "peak_fraction": fraction(flops, summaries["plan"].median_s, args.dtype, args.threads),
        # What a plan's slowest 1 in 1000 cost beyond what they cost a loop that does nothing.
        "tail_excess": {
            name: None if row.p999_s is None else row.p999_s - row.median_s
            for name, row in summaries.items()
        },
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    plot(samples, args.out.with_suffix(".png"))
    for name, row in summaries.items():
        times = (row.median_s, row.p99_s, row.p999_s, row.max_s)
        shown = "  ".join("-" if time is None else f"{1e3 * time:.3f}" for time in times)
        print(f"{name}: median, p99, p99.9, max in ms  {shown}  ({row.count})")


if __name__ == "__main__":
    main()
