"""`dmpc-fast train`: learn a model from a Minari dataset."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dmpc_fast.spec import PRESETS, STAGES
from dmpc_fast.training.settings import CHOICES

#: Sizes of a network that may be overridden, in all stages or in one.
_SIZES = ("patch", "layers", "width", "heads", "head_size", "mlp")


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "train", help="train proposal, dynamics and objective on logged data"
    )
    parser.add_argument(
        "--dataset", action="append", required=True, help="Minari id; repeat for a mixture"
    )
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--horizon", type=int, default=32, help="time steps planned ahead")
    parser.add_argument("--history", type=int, default=1, help="observations given to the model")
    parser.add_argument("--discount", type=float, default=0.99)
    parser.add_argument("--termination-penalty", type=float, default=100.0)
    parser.add_argument(
        "--proposal-steps", type=int, default=5, help="DDIM steps, stored in the file"
    )
    parser.add_argument(
        "--dynamics-steps", type=int, default=1, help="DDIM steps, stored in the file"
    )
    for name in _SIZES:
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int, help=f"override the preset's {name}"
        )
    parser.add_argument(
        "--stage",
        action="append",
        default=[],
        type=_stage_option,
        metavar="STAGE.FIELD=N",
        help="override a size in one stage, such as dynamics.patch=1; may be repeated",
    )
    parser.add_argument("--positions", choices=("learned", "fourier"))
    parser.add_argument(
        "--history-tokens", action="store_true", help="add the state to every token"
    )
    parser.add_argument("--objective-members", type=int, default=1, help="networks in its ensemble")
    parser.add_argument(
        "--num-samples", type=int, help="recommended candidates, stored in the file"
    )
    parser.add_argument(
        "--action-chunk", type=int, help="recommended actions per plan, stored in the file"
    )
    parser.add_argument(
        "--num-elites", type=int, help="recommended best candidates to average, stored in the file"
    )
    for stage in STAGES:
        parser.add_argument(f"--{stage}-train-steps", type=int, help=f"steps for the {stage} alone")
    parser.add_argument(
        "--from",
        dest="base",
        metavar="MODEL",
        help="take what --only leaves out from this model file, run's folder or shipped model",
    )
    parser.add_argument(
        "--only", action="append", choices=STAGES, help="train this stage alone; may be repeated"
    )
    parser.add_argument(
        "--objective-temperature", type=float, help="weight the objective's data by return, too"
    )
    parser.add_argument(
        "--return-condition",
        action="store_true",
        default=None,
        help="tell the proposal the rank of each episode's return, which the model then takes as its "
        "context (0 to 1; fix it by export --context)",
    )
    parser.add_argument(
        "--value-expectile",
        type=float,
        help="which expectile of the return the value is; 0.5 is the mean",
    )
    parser.add_argument(
        "--value-bootstrap",
        action="store_true",
        default=None,
        help="the value learns from the next horizon and itself, not from the return",
    )
    parser.add_argument(
        "--state-noise", type=float, help="of the objective's states, in standard deviations"
    )
    parser.add_argument(
        "--history-noise",
        type=float,
        help="of the states that the proposal is told, in standard deviations",
    )
    parser.add_argument(
        "--predicted-states",
        type=float,
        metavar="SHARE",
        help="of the objective's examples, whose states the dynamics model predicts",
    )
    add_muon_arguments(parser, STAGES, "dynamics")
    for stage in ("proposal", "dynamics"):
        parser.add_argument(
            f"--{stage}-angles",
            choices=CHOICES[f"{stage}_angles"],
            help=f"noise angles that the {stage} learns at; those of --{stage}-steps alone, or all",
        )
    parser.add_argument(
        "--horizon-weighting",
        type=float,
        metavar="POWER",
        help="of the dynamics' loss: how much more the steps count that differ less from s_t",
    )
    for side in ("states", "actions"):
        parser.add_argument(
            f"--mirror-{side}",
            nargs="+",
            metavar="DIMENSION",
            help=f"the robot's symmetry: for each dimension of {side} the one whose value it has in "
            "the mirrored robot, -DIMENSION where the sign turns; half of the windows are mirrored",
        )
    parser.add_argument(
        "--mirror-stages",
        nargs="+",
        choices=STAGES,
        help="stages that learn from mirrored windows (default: dynamics objective)",
    )
    parser.add_argument(
        "--control-period", type=float, help="seconds between actions, if the dataset cannot tell"
    )
    add_training_arguments(parser)
    return parser


def add_muon_arguments(
    parser: argparse.ArgumentParser, stages: Sequence[str], default: str
) -> None:
    """Which of `stages` learn by Muon. default: those that do unless told otherwise, in words."""
    parser.add_argument(
        "--muon",
        nargs="*",
        choices=stages,
        help=f"stages that learn by Muon, others by AdamW (default: {default})",
    )
    parser.add_argument("--muon-learning-rate", type=float)


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that training and fine-tuning share."""
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument("--steps", type=int, help="optimiser steps of each stage")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--weight-decay", type=float)
    parser.add_argument("--warmup", type=int, help="steps of linear warm-up")
    parser.add_argument("--ema-decay", type=float)
    parser.add_argument("--precision", choices=("auto", "float32", "bf16"))
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=None)
    parser.add_argument(
        "--kernels",
        choices=CHOICES["kernels"],
        help="that compute the networks' blocks; triton needs a CUDA device (default: torch)",
    )
    parser.add_argument("--checkpoint-every", type=int, metavar="STEPS")
    parser.add_argument("--validate-every", type=int, metavar="STEPS")
    parser.add_argument("--validation-fraction", type=float, metavar="SHARE")
    parser.add_argument("--threads", type=int, help="torch threads")
    parser.add_argument("--seed", type=int)
    parser.add_argument(
        "--return-temperature",
        type=float,
        help="weight the proposal's data by return; small is greedy",
    )
    parser.add_argument(
        "--weighted-return",
        choices=CHOICES["weighted_return"],
        help="the return of that weight: of the whole episode, or from the window on",
    )
    parser.add_argument(
        "--start-fraction", type=float, help="share of batches from the first steps of episodes"
    )
    parser.add_argument(
        "--start-steps", type=int, help="how many first steps those are; default: the horizon"
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:N; the default is CUDA where present")
    parser.add_argument("--no-progress", action="store_true")


def _stage_option(text: str) -> tuple[str, str, int]:
    """`dynamics.head-size=64` as ("dynamics", "head_size", 64)."""
    name, _, value = text.partition("=")
    stage, _, field = name.partition(".")
    field = field.replace("-", "_")
    if stage not in STAGES or field not in _SIZES or not value.isdigit():
        raise argparse.ArgumentTypeError(
            f"expected STAGE.FIELD=N with a stage of {', '.join(STAGES)} and a field of "
            f"{', '.join(_SIZES)}, got {text!r}"
        )
    return stage, field, int(value)


def training_options(args: argparse.Namespace) -> dict[str, Any]:
    """Settings given on the command line; what was not given keeps its default."""
    names = (
        "batch_size", "learning_rate", "weight_decay", "warmup", "ema_decay", "precision",
        "compile", "kernels", "checkpoint_every", "validate_every", "validation_fraction", "threads",
        "seed",
        "return_temperature", "weighted_return", "return_condition", "start_fraction", "start_steps",
        "value_expectile", "objective_temperature",
        "value_bootstrap", "state_noise", "history_noise", "predicted_states", "muon",
        "muon_learning_rate",
        "proposal_angles", "dynamics_angles", "horizon_weighting", "mirror_states", "mirror_actions",
        "mirror_stages",
    )  # fmt: skip
    # Fine-tuning has no options of the objective.
    given = {name: getattr(args, name, None) for name in names}
    options = {name: value for name, value in given.items() if value is not None}
    return {
        **options,
        "out": args.out,
        "resume": args.resume,
        "device": args.device,
        "progress": not args.no_progress,
    }


def run(args: argparse.Namespace) -> int:
    from dmpc_fast.assets import resolve
    from dmpc_fast.training.api import train

    names = (*_SIZES, "positions")
    stage_options = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.history_tokens:
        stage_options["history_tokens"] = True
    for stage, field, value in args.stage:
        stage_options.setdefault(stage, {})[field] = value
    recommended = {
        name: getattr(args, name)
        for name in ("num_samples", "action_chunk", "num_elites")
        if getattr(args, name) is not None
    }
    steps: int | dict[str, int] | None = args.steps
    single = {stage: getattr(args, f"{stage}_train_steps") for stage in STAGES}
    single = {stage: count for stage, count in single.items() if count is not None}
    if single:
        everywhere = dict.fromkeys(STAGES, args.steps) if args.steps is not None else {}
        steps = {**everywhere, **single}
    path = train(
        args.dataset,
        preset=args.preset,
        steps=steps,
        horizon=args.horizon,
        history=args.history,
        discount=args.discount,
        termination_penalty=args.termination_penalty,
        proposal_steps=args.proposal_steps,
        dynamics_steps=args.dynamics_steps,
        objective_members=args.objective_members,
        stage_options=stage_options,
        recommended=recommended,
        control_period_s=args.control_period,
        base=None if args.base is None else resolve(args.base),
        only=args.only,
        **training_options(args),
    )
    print(path)
    return 0
