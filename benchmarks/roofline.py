"""Where the time of a plan goes, stage by stage, against what the machine can do.

python -m benchmarks.roofline [MODEL ...] [--threads 1 2] [--json out.json]

MODEL is a shipped name, a file, or preset:NAME[:PATCH] for random weights of Hopper's sizes. Every
stage runs alone on the inputs that the plan gives it, all in turns; a stage's row thus also holds what
the plan does once (embedding the condition, waking the threads).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.flops import plan_work
from benchmarks.peaks import PEAK_OF, measured_peaks
from benchmarks.workload import random_model
from dmpc_fast.assets import resolve
from dmpc_fast.backends.base import Backend, CandidateGroup, PlanRequest
from dmpc_fast.backends.registry import create
from dmpc_fast.cli.bench import machine
from dmpc_fast.latency import Budget, measure
from dmpc_fast.model_file import Model, load_model
from dmpc_fast.spec import SamplerSpec

BYTES = {"float32": 4, "bf16": 2, "int8": 1}


def rows(
    name: str, *, threads: int, num_samples: int, steps: tuple[int, int], budget: Budget
) -> Iterator[dict[str, Any]]:
    """One row per stage and precision of the C++ engine."""
    model = _model(name)
    request = _request(model, num_samples, steps)
    variants: dict[str, Callable[[], object]] = {}
    for dtype in BYTES:
        backend = create("cpu", model, dtype=dtype, threads=threads)
        for stage, call in _stages(backend, request):
            variants[f"{dtype} {stage}"] = call
    samples = measure(variants, budget)
    peaks = measured_peaks(threads)
    for key, taken in samples.items():
        dtype, stage = key.split()
        work = plan_work(model.spec, num_samples, *steps, bytes_per_weight=BYTES[dtype])[stage]
        seconds = taken.summary().median_s
        peak = peaks[PEAK_OF[dtype]]
        yield {
            "model": name,
            "threads": threads,
            "num_samples": num_samples,
            "steps": list(steps),
            "dtype": dtype,
            "stage": stage,
            "median_ms": 1e3 * seconds,
            "gflop": work.flops / 1e9,
            "gflops": work.flops / seconds / 1e9,
            "peak_fraction": None if peak is None else work.flops / seconds / (1e9 * peak),
            "weight_kib": work.weight_bytes / 1024,
            "flop_per_weight_byte": work.flops / work.weight_bytes,
        }


def _stages(backend: Backend, request: PlanRequest) -> Iterator[tuple[str, Callable[[], object]]]:
    actions = backend.sample(request)
    states = backend.predict(request, actions)
    yield "proposal", lambda: backend.sample(request)
    yield "dynamics", lambda: backend.predict(request, actions)
    yield "objective", lambda: backend.score(request, states, actions)
    yield "plan", lambda: backend.plan(request)


def _model(name: str) -> Model:
    if name.startswith("preset:"):
        _, preset, *patch = name.split(":")
        return random_model(preset, int(patch[0]) if patch else 1)
    return load_model(resolve(name))


def _request(model: Model, num_samples: int, steps: tuple[int, int]) -> PlanRequest:
    spec = model.spec
    state = model.normalizer.state.mean.astype(np.float32)
    proposal, dynamics = (SamplerSpec.uniform(count) for count in steps)
    zeros = np.zeros((1, spec.history - 1, spec.action_size), np.float32)
    return PlanRequest(
        states=np.repeat(state[None, None], spec.history, axis=1),
        actions=zeros,
        mask=np.zeros(zeros.shape[:2], np.float32),
        context=np.zeros((1, spec.context), np.float32),
        seed=0,
        robots=np.zeros(1, np.int64),
        plan_index=np.zeros(1, np.int64),
        groups=(CandidateGroup(num_samples, proposal, dynamics),),
    )


def _line(row: dict[str, Any]) -> str:
    share = row["peak_fraction"]
    shown = "   -" if share is None else f"{100 * share:3.0f} %"
    return (
        f"{row['model']:18} {row['threads']} {row['dtype']:8} {row['stage']:10}"
        f"{row['median_ms']:9.3f} ms {row['gflop']:9.3f} GFLOP {row['gflops']:8.1f} GFLOP/s  {shown}"
        f"  weights {row['weight_kib']:8.0f} KiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "models", nargs="*", default=["preset:tiny", "preset:small", "preset:paper", "hopper"]
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--num-samples", type=int, default=64)
    parser.add_argument("--steps", default="1+1", help="proposal + dynamics evaluations")
    parser.add_argument("--plans", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60, help="at most, per model")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    proposal, _, dynamics = args.steps.partition("+")
    found = []
    for name in args.models:
        for threads in args.threads:
            for row in rows(
                name,
                threads=threads,
                num_samples=args.num_samples,
                steps=(int(proposal), int(dynamics)),
                budget=Budget(args.plans, args.seconds),
            ):
                print(_line(row), flush=True)
                found.append(row)
    if args.json:
        report = {
            "machine": machine(),
            "peaks": [measured_peaks(threads) for threads in args.threads],
            "rows": found,
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
