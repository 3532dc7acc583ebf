"""`dmpc-fast export`: a model file to pass on, with smaller weights or other recommendations."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


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
    parser.add_argument("--proposal-steps", type=int, help="evaluations per sample, equal steps")
    parser.add_argument("--dynamics-steps", type=int, help="evaluations per sample, equal steps")
    parser.add_argument(
        "--rule",
        choices=("ddim", "consistency"),
        help="of samplers whose steps are given (default: the file's own)",
    )
    return parser


def run(args: argparse.Namespace) -> int:
    import dataclasses

    from dmpc_fast.assets import resolve
    from dmpc_fast.model_file import load_model, save_model
    from dmpc_fast.spec import SamplerSpec

    model = load_model(resolve(args.model))
    recommended = dict(model.spec.recommended)
    for name in ("num_samples", "action_chunk", "num_elites"):
        if getattr(args, name) is not None:
            recommended[name] = getattr(args, name)
    stages = dict(model.spec.stages)
    if args.rule is not None and args.proposal_steps is None and args.dynamics_steps is None:
        raise ValueError(
            f"--rule {args.rule} is of samplers whose steps are given: give --proposal-steps or "
            "--dynamics-steps"
        )
    for name in ("proposal", "dynamics"):
        own, count = stages[name].sampler, getattr(args, f"{name}_steps")
        if own is not None and count is not None:
            sampler = SamplerSpec.uniform(count, args.rule or own.rule)
            stages[name] = dataclasses.replace(stages[name], sampler=sampler)
    spec = dataclasses.replace(model.spec, recommended=recommended, stages=stages)
    save_model(args.out, spec, model.tensors, storage=args.storage)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, weights in {args.storage}")
    return 0
