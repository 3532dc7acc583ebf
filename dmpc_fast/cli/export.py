"""`dmpc-fast export`: a model file to pass on, with smaller weights or other recommendations."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

#: Stages that have a sampler.
DENOISERS = ("proposal", "dynamics")


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "export", help="write a model file to pass on, with weights of half the size"
    )
    parser.add_argument("model", help="model file, a run's folder, or the name of a shipped model")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--storage", choices=("float32", "float16"), default="float16")
    parser.add_argument("--num-samples", type=int, help="recommended candidates per plan")
    parser.add_argument("--action-chunk", type=int, help="recommended actions run per plan")
    parser.add_argument(
        "--num-elites", type=int, help="recommended number of best candidates whose mean is run"
    )
    parser.add_argument(
        "--context",
        type=float,
        nargs="+",
        metavar="X",
        help="fix the model's context, such as the rank of the return of --return-condition",
    )
    for stage in DENOISERS:
        steps = parser.add_mutually_exclusive_group()
        steps.add_argument(f"--{stage}-steps", type=int, help="evaluations per sample, equal steps")
        steps.add_argument(
            f"--{stage}-angles",
            type=float,
            nargs="+",
            metavar="ANGLE",
            help="evaluations per sample, at these noise angles from pi/2 down, in radians",
        )
    parser.add_argument(
        "--rule",
        choices=("ddim", "consistency"),
        help="of samplers whose steps are given (default: the file's own)",
    )
    return parser


def _unrounded(angle: float) -> float:
    """pi/2 where a few of its decimals were given."""
    return math.pi / 2 if abs(angle - math.pi / 2) < 1e-4 else angle


def run(args: argparse.Namespace) -> int:
    import dataclasses

    from dmpc_fast.assets import resolve
    from dmpc_fast.model_context import with_fixed_context
    from dmpc_fast.model_file import load_model, save_model
    from dmpc_fast.spec import SamplerSpec

    model = load_model(resolve(args.model))
    recommended = dict(model.spec.recommended)
    for name in ("num_samples", "action_chunk", "num_elites"):
        if getattr(args, name) is not None:
            recommended[name] = getattr(args, name)
    stages = dict(model.spec.stages)
    given = False
    for name in DENOISERS:
        own = stages[name].sampler
        count, angles = getattr(args, f"{name}_steps"), getattr(args, f"{name}_angles")
        if own is None or (count is None and angles is None):
            continue
        given, rule = True, args.rule or own.rule
        if angles is None:
            sampler = SamplerSpec.uniform(count, rule)
        else:
            sampler = SamplerSpec(rule, tuple(map(_unrounded, angles)))
        stages[name] = dataclasses.replace(stages[name], sampler=sampler)
    if args.rule is not None and not given:
        raise ValueError(
            f"--rule {args.rule} is of samplers whose steps are given: give --proposal-steps, "
            "--dynamics-steps or their --...-angles"
        )
    spec, tensors = model.spec, model.tensors
    if args.context is not None:
        spec, tensors = with_fixed_context(model, args.context)
        stages = {
            name: dataclasses.replace(sizes, sampler=stages[name].sampler)
            for name, sizes in spec.stages.items()
        }
    spec = dataclasses.replace(spec, recommended=recommended, stages=stages)
    save_model(args.out, spec, tensors, storage=args.storage)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, weights in {args.storage}")
    return 0
