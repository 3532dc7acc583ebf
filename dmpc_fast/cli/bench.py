"""`dmpc-fast bench`: how fast a model plans on this machine, on every backend that can run it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmpc_fast.spec import DTYPES, SamplerSpec

if TYPE_CHECKING:
    from dmpc_fast.model_file import Model
    from dmpc_fast.planning.planner import Planner

ALL = "all"
SPIN = "spin loop"
#: Distributions that decide how fast a plan is.
PACKAGES = ("numpy", "torch", "triton", "onnxruntime", "openvino")


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "bench",
        help="measure a plan from observation to action, on every backend in turns",
    )
    parser.add_argument("model", help="model file, a run's folder, or the name of a shipped model")
    parser.add_argument("--backend", default=ALL, help="one backend, or 'all' (default)")
    parser.add_argument("--dtype", choices=(*DTYPES, ALL), default=ALL)
    parser.add_argument(
        "--num-samples", type=int, help="candidates per plan (default: the model's recommendation)"
    )
    parser.add_argument("--threads", type=int, help="default: each backend's own choice")
    parser.add_argument(
        "--steps",
        type=steps,
        metavar="P+D",
        help="uniform steps of proposal and dynamics, such as 2+1 (default: the file's samplers)",
    )
    parser.add_argument("--plans", type=int, default=200, help="of each variant (default: 200)")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="end after so long (default: 60)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    return parser


def steps(text: str) -> tuple[int, int]:
    """(2, 1) for "2+1"."""
    proposal, plus, dynamics = text.partition("+")
    if not plus or not proposal.isdecimal() or not dynamics.isdecimal():
        raise argparse.ArgumentTypeError(f"must be two numbers such as 2+1, got {text!r}")
    return int(proposal), int(dynamics)


def run(args: argparse.Namespace) -> int:
    from dmpc_fast.assets import resolve
    from dmpc_fast.model_file import load_model

    if args.json is not None and not args.json.absolute().parent.is_dir():
        raise FileNotFoundError(f"the folder of {args.json} does not exist")
    path = resolve(args.model)
    report = bench(args, load_model(path), path.name)
    if args.json is not None:
        text = json.dumps(report, indent=2, allow_nan=False)
        args.json.write_text(text + "\n", encoding="utf-8")
    print("\n".join(table(report)))
    return 0


def bench(args: argparse.Namespace, model: Model, name: str) -> dict[str, Any]:
    """Measure every variant that this machine has; everything known of it, ready for JSON."""
    from dmpc_fast.latency import Budget, SpinReference, measure

    planners, missing = _planners(args, model)
    observation = model.normalizer.state.mean  # the most ordinary one there is
    variants: dict[str, Any] = {
        label: (lambda planner=planner: planner.act(observation))
        for label, planner in planners.items()
    }
    variants[SPIN] = SpinReference(next(iter(variants)))
    period = model.spec.environment.control_period_s
    rows = []
    for label, samples in measure(variants, Budget(args.plans, args.seconds)).items():
        summary = samples.summary()
        rows.append(
            {
                "variant": label,
                **dataclasses.asdict(summary),
                "cold_start_s": float(samples.warmup[0]) * 1e-9,
                "plans_per_s": 1.0 / summary.median_s,
                "period_share": summary.median_s / period,
            }
        )
    return {
        "machine": machine(),
        "settings": {
            "model": name,
            "sha256": model.sha256,
            "num_samples": next(iter(planners.values())).num_samples,
            "threads": args.threads,
            "steps": None if args.steps is None else "+".join(map(str, args.steps)),
            "control_period_s": period,
        },
        "rows": rows,
        "unavailable": missing,
    }


def _planners(args: argparse.Namespace, model: Model) -> tuple[dict[str, Planner], dict[str, str]]:
    """A planner for each backend and dtype asked for, and why the others have none.

    Raises BackendUnavailableError where none has one.
    """
    from dmpc_fast.backends.base import BackendUnavailableError
    from dmpc_fast.backends.registry import available
    from dmpc_fast.planning.planner import Planner

    # Every action is of a plan of its own.
    options: dict[str, Any] = {
        "num_samples": args.num_samples,
        "threads": args.threads,
        "action_chunk": 1,
    }
    if args.steps is not None:
        for name, count in zip(("proposal", "dynamics"), args.steps, strict=True):
            options[f"{name}_sampler"] = SamplerSpec.uniform(count)
    planners: dict[str, Planner] = {}
    missing: dict[str, str] = {}
    if args.backend == ALL:
        missing = {name: reason for name, reason in available().items() if reason is not None}
    backends = [name for name in available() if name not in missing]
    for backend in backends if args.backend == ALL else [args.backend]:
        for dtype in DTYPES if args.dtype == ALL else (args.dtype,):
            label = f"{backend} {dtype}"
            try:
                planners[label] = Planner.load(model, backend=backend, dtype=dtype, **options)
            except BackendUnavailableError as error:
                missing[label] = str(error)
    if not planners:
        raise BackendUnavailableError("; ".join(missing.values()))
    return planners, missing


def machine() -> dict[str, Any]:
    """What a time depends on: processor, cores, versions. No path and no name of the host."""
    from dmpc_fast import __version__
    from dmpc_fast.cli.doctor import cpu, version

    return {
        "cpu": cpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "versions": {"dmpc-fast": __version__, **{name: version(name) for name in PACKAGES}},
    }


def table(report: dict[str, Any]) -> Iterator[str]:
    """Lines for a person to read."""
    processor, settings = report["machine"]["cpu"], report["settings"]
    yield f"{processor['name'] or report['machine']['system']}, {processor['usable_cores']} cores"
    yield (
        f"{settings['model']}, N = {settings['num_samples']}, "
        f"steps {settings['steps'] or 'of the file'}, "
        f"threads {settings['threads'] or 'of the backend'}, control period "
        f"{settings['control_period_s'] * 1e3:g} ms"
    )
    yield ""
    yield (
        f"{'variant':14} {'plans':>6} {'median ms':>10} {'p99 ms':>10} {'p99.9 ms':>10} "
        f"{'plans/s':>9} {'of period':>10}"
    )
    for row in report["rows"]:
        yield (
            f"{row['variant']:14} {row['count']:6d} {_ms(row['median_s'])} {_ms(row['p99_s'])} "
            f"{_ms(row['p999_s'])} {row['plans_per_s']:9.1f} {100 * row['period_share']:8.1f} %"
        )
    for label, reason in report["unavailable"].items():
        yield f"{label:14} {reason}"


def _ms(seconds: float | None) -> str:
    return f"{'-' if seconds is None else format(1e3 * seconds, '.3f'):>10}"
