"""`dmpc-fast distill`: from a teacher to a student that needs one evaluation per network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dmpc_fast.cli.train import add_muon_arguments, add_training_arguments, training_options

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
    "temperature": float,
}


#: Options of a policy alone: field of `ImitationSettings`, or argument of `distill_policy`.
_POLICY_NUMBERS = {
    "rounds": ("rounds", "of driving and fitting"),
    "round_states": ("round_states", "states that each round adds"),
    "robots": ("robots", "episodes at once"),
    "policy_layers": ("layers", "hidden layers"),
    "policy_width": ("width", "of hidden layers"),
    "num_samples": ("num_samples", "candidates per plan (default: the model's recommendation)"),
    "num_elites": ("num_elites", "candidates whose mean is run (default: the model's)"),
    "max_steps": ("max_steps", "end episodes after so many steps"),
}
#: Options that a policy shares with students.
_POLICY_SHARED = ("steps", "batch_size", "learning_rate", "ema_decay", "seed", "threads")
_STUDENT_ONLY = (
    "dataset", "proposal_train_steps", "dynamics_train_steps", "only", "loss", "weight_decay",
    "warmup", "precision", "compile", "kernels", "checkpoint_every", "validate_every",
    "validation_fraction", "return_temperature", "weighted_return", "start_fraction",
    "start_steps", "muon", "muon_learning_rate", "device",
)  # fmt: skip


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
    add_muon_arguments(parser, _STAGES, "proposal")
    _add_policy_arguments(parser)
    add_training_arguments(parser)
    return parser


def _add_policy_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "policy", "teach a reactive policy to do what the planner does; the model stays as it is"
    )
    group.add_argument("--policy", action="store_true", help="make a policy instead of a student")
    group.add_argument("--env", help="Gymnasium id that planner and policy drive in, with --policy")
    for name, (_, text) in _POLICY_NUMBERS.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=int, help=text)
    group.add_argument("--backend", help="that plans (default: auto)")
    group.add_argument("--dtype", choices=("float32", "bf16", "int8"), help="that plans")


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
    return _distill_policy(args) if args.policy else _distill(args)


def _distill_policy(args: argparse.Namespace) -> int:
    from dmpc_fast.assets import resolve
    from dmpc_fast.imitation.distill_policy import distill_policy

    for name in _STUDENT_ONLY:
        if getattr(args, name) not in (None, []):
            raise ValueError(f"--{name.replace('_', '-')} is for students, not for --policy")
    if args.without_teacher or (args.proposal_steps, args.dynamics_steps) != (1, 1):
        raise ValueError(
            "--without-teacher, --proposal-steps and --dynamics-steps are for students, "
            "not for --policy"
        )
    if args.env is None:
        raise ValueError("--policy needs --env, the environment to drive in")
    given = {field: getattr(args, name) for name, (field, _) in _POLICY_NUMBERS.items()}
    given |= {name: getattr(args, name) for name in (*_POLICY_SHARED, "backend", "dtype")}
    path = distill_policy(
        resolve(args.model),
        args.env,
        out=args.out,
        resume=args.resume,
        progress=not args.no_progress,
        **{name: value for name, value in given.items() if value is not None},
    )
    print(path)
    return 0


def _distill(args: argparse.Namespace) -> int:
    for name in (*_POLICY_NUMBERS, "env", "backend", "dtype"):
        if getattr(args, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} is for --policy")
    from dmpc_fast.assets import resolve
    from dmpc_fast.model_file import load_model
    from dmpc_fast.training.distill import distill, model_file
    from dmpc_fast.training.student_recipe import DISTILL_STEPS, stages_of_many_steps

    teacher = model_file(Path(resolve(args.model)))
    asked = tuple(s for s in _STAGES if getattr(args, f"{s}_train_steps") is not None)
    stages = (args.only,) if args.only else stages_of_many_steps(load_model(teacher).spec)
    stages = tuple(dict.fromkeys((*stages, *(() if args.only else asked))))
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
        if not losses.keys() & set(named):
            raise ValueError(f"--loss {named[0]}.{field} is of a stage that is not distilled")
        for stage in named:
            if stage in losses:
                losses[stage][field] = value
    path = distill(
        teacher,
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
