"""`dmpc-fast distill`: from a teacher to a student that needs one evaluation per network."""

from __future__ import annotations

import argparse
from typing import Any

from dmpc_fast.cli.train import add_training_arguments, training_options

_STAGES = ("proposal", "dynamics")
#: Fields of the student's loss and how their values are read.
_FIELDS: dict[str, type] = {
    "method": str,
    "solver": str,
    "solver_steps": int,
    "first_cells": int,
    "pure_noise": float,
    "intermediate": float,
    "denoising_weight": float,
    "huber": float,
}


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "distill", help="teach proposal and dynamics to sample in one step"
    )
    parser.add_argument("model", help="the teacher: run's folder, model file or shipped model")
    parser.add_argument(
        "--dataset", action="append", help="Minari id; repeatable; default: the teacher's own"
    )
    parser.add_argument(
        "--proposal-steps", type=int, default=1, help="evaluations per sample, stored in the file"
    )
    parser.add_argument(
        "--dynamics-steps", type=int, default=1, help="evaluations per sample, stored in the file"
    )
    for stage in _STAGES:
        parser.add_argument(f"--{stage}-train-steps", type=int, help=f"steps for the {stage} alone")
    parser.add_argument(
        "--only", choices=_STAGES, help="distil this stage and keep the other as it is"
    )
    parser.add_argument(
        "--without-teacher", action="store_true", help="learn to jump from the data alone"
    )
    parser.add_argument(
        "--loss",
        action="append",
        default=[],
        type=_loss_option,
        metavar="[STAGE.]FIELD=VALUE",
        help=f"override the recipe's loss; fields: {', '.join(_FIELDS)}; may be repeated",
    )
    add_training_arguments(parser)
    return parser


def _loss_option(text: str) -> tuple[tuple[str, ...], str, Any]:
    """`dynamics.huber=0.01` as (("dynamics",), "huber", 0.01); without a stage, both."""
    name, _, value = text.partition("=")
    stage, dot, field = name.rpartition(".")
    field = field.replace("-", "_")
    if field not in _FIELDS or (dot and stage not in _STAGES) or not value:
        raise argparse.ArgumentTypeError(
            f"expected [STAGE.]FIELD=VALUE with a stage of {', '.join(_STAGES)} and a field of "
            f"{', '.join(_FIELDS)}, got {text!r}"
        )
    try:
        return (stage,) if dot else _STAGES, field, _FIELDS[field](value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{field} must be of type {_FIELDS[field].__name__}, got {value!r}"
        ) from None


def run(args: argparse.Namespace) -> int:
    from dmpc_fast.assets import resolve
    from dmpc_fast.training.distill import distill
    from dmpc_fast.training.student_recipe import DISTILL_STEPS

    stages = (args.only,) if args.only else _STAGES
    steps = {
        stage: next(
            count
            for count in (getattr(args, f"{stage}_train_steps"), args.steps, DISTILL_STEPS[stage])
            if count is not None
        )
        for stage in stages
    }
    losses: dict[str, dict[str, Any]] = {stage: {} for stage in stages}
    for named, field, value in args.loss:
        for stage in named:
            if stage in losses:
                losses[stage][field] = value
    path = distill(
        resolve(args.model),
        args.dataset,
        steps=steps,
        proposal_steps=args.proposal_steps,
        dynamics_steps=args.dynamics_steps,
        without_teacher=args.without_teacher,
        distillation=losses,
        **training_options(args),
    )
    print(path)
    return 0
