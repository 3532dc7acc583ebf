"""`dmpc-fast experiment`: what makes it MPC, measured: new rewards, new dynamics, misfit."""

from __future__ import annotations

import argparse
import functools
import importlib
import warnings
from pathlib import Path
from typing import Any

#: Name of each experiment, its module, and what it shows.
EXPERIMENTS = {
    "misfit": (
        "dmpc_fast.evaluation.experiments.misfit_monitor",
        "how soon the misfit monitor notices a defect",
    ),
    "novel-reward": (
        "dmpc_fast.evaluation.experiments.novel_reward",
        "targets of height and speed, and a hard limit, without training",
    ),
    "novel-dynamics": (
        "dmpc_fast.evaluation.experiments.novel_dynamics",
        "a defect of Walker2d's ankle, before and after fine-tuning the dynamics alone",
    ),
    "both": (
        "dmpc_fast.evaluation.experiments.both_changes",
        "the defect and a height reward together",
    ),
    "planners": (
        "dmpc_fast.evaluation.experiments.planners",
        "sample-score-rank against random shooting, MBOP, CEM and MPPI on the same models",
    ),
    "settings": (
        "dmpc_fast.evaluation.experiments.settings_table",
        "candidates, chunk, elites, discount, termination penalty, warm start, horizon",
    ),
    "severity": (
        "dmpc_fast.evaluation.experiments.severity",
        "weaker and weaker ankles, v4's friction: the planner, and the oracle's best of N",
    ),
    "action-sizes": (
        "dmpc_fast.evaluation.experiments.action_sizes",
        "the best of N against a strong search with more and more actions, up to an Ant and teams",
    ),
    "dynamics": (
        "dmpc_fast.rivals.dynamics",
        "F steps at once against single-step diffusion, a perceptron and five of them",
    ),
    "finetuning": (
        "dmpc_fast.rivals.finetuning",
        "all weights, last layers, low-rank; a student itself, or its teacher distilled again",
    ),
    "joint": (
        "dmpc_fast.rivals.joint",
        "one denoiser of states and actions against the pair, before and after play",
    ),
    "proposals": (
        "dmpc_fast.rivals.proposals",
        "diffusion against a Gaussian on a point mass with two ways at every step",
    ),
}
TRAINERS = {
    "train": "dmpc_fast.training.api",
    "finetune": "dmpc_fast.training.api",
    "distill": "dmpc_fast.training.distill",
}
#: Sizes where none are given; None leaves one to the model or the task.
FULL: dict[str, Any] = {
    "episodes": 20,
    "num_samples": None,
    "max_steps": None,
    "finetune_steps": 2000,
    "train_steps": None,
}
QUICK: dict[str, Any] = {
    "episodes": 2,
    "num_samples": 4,
    "max_steps": 60,
    "finetune_steps": 20,
    "train_steps": 20,
}
#: Options of all training: a quick run spends no minutes on it.
FULL_TRAINING: dict[str, Any] = {}
QUICK_TRAINING: dict[str, Any] = {"batch_size": 16, "compile": False, "precision": "float32"}


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "experiment", help="run an experiment on the shipped models, resuming what was begun"
    )
    parser.add_argument(
        "name",
        choices=("list", *EXPERIMENTS, "all"),
        help="; ".join(f"{name}: {shows}" for name, (_, shows) in EXPERIMENTS.items()),
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("experiments"),
        help="folder of results (default: %(default)s)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a smaller grid, with 2 episodes of 60 steps, 4 candidates and 20 training steps where "
        "these are not given: shows that an experiment runs, not what it finds",
    )
    parser.add_argument("--episodes", type=int, help="per arm (default: 20)")
    parser.add_argument(
        "--seed", type=int, default=10_000, help="episode i is reset with seed + i (default: 10000)"
    )
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--dtype", choices=("float32", "bf16", "int8"), default="float32")
    parser.add_argument(
        "--num-samples", type=int, help="candidates per plan (default: the model's recommendation)"
    )
    parser.add_argument(
        "--num-elites", type=int, help="best candidates whose mean runs (default: the same)"
    )
    for option, what in (
        ("--model", "use FILE in place of a shipped model"),
        ("--proposal", "use the proposal of FILE in place of a shipped model's"),
    ):
        parser.add_argument(
            option,
            action="append",
            default=[],
            metavar="NAME=FILE",
            type=_replacement,
            help=f"{what}, such as walker2d; repeatable",
        )
    parser.add_argument("--batch", type=int, default=8, help="episodes at once (default: 8)")
    parser.add_argument("--threads", type=int, help="of the backend")
    parser.add_argument("--max-steps", type=int, help="end episodes after so many steps")
    parser.add_argument("--finetune-steps", type=int, help="of the optimiser (default: 2000)")
    parser.add_argument(
        "--train-steps",
        type=int,
        help="of models that an experiment trains itself (default: the experiment's own choice)",
    )
    parser.add_argument(
        "--arms",
        action="append",
        default=[],
        metavar="PATTERN",
        help="measure only the arms whose names match, such as 'halfcheetah-*'; repeatable. The "
        "table has what was measured by then",
    )
    parser.add_argument(
        "--video",
        action="store_true",
        help="film an episode of each new reward (novel-reward, all)",
    )
    parser.add_argument("--no-progress", action="store_true")
    return parser


def run(args: argparse.Namespace) -> int:
    if args.name == "list":
        for name, (_, shows) in EXPERIMENTS.items():
            print(f"{name:16} {shows}")
        return 0
    from dmpc_fast.evaluation.experiments.arms import Common

    if args.arms and args.name == "all":
        raise ValueError("--arms chooses arms of one experiment, got all of them")
    if args.video and args.name not in ("novel-reward", "all"):
        raise ValueError(f"--video films novel-reward, got {args.name}")
    sizes = QUICK if args.quick else FULL
    given = {name: getattr(args, name) for name in sizes if getattr(args, name) is not None}
    sizes = {**sizes, **given}
    if sizes["episodes"] < 1 or args.batch < 1:
        raise ValueError(
            f"--episodes and --batch must be at least 1, got {sizes['episodes']} and {args.batch}"
        )
    common = Common(
        out=args.out,
        episodes=sizes["episodes"],
        seed=args.seed,
        backend=args.backend,
        dtype=args.dtype,
        num_samples=sizes["num_samples"],
        batch=args.batch,
        threads=args.threads,
        max_steps=sizes["max_steps"],
        progress=not args.no_progress,
        trainers={name: functools.partial(_trainer, name) for name in TRAINERS},
        training=QUICK_TRAINING if args.quick else FULL_TRAINING,
        finetune_steps=sizes["finetune_steps"],
        num_elites=args.num_elites,
        models=dict(args.model),
        proposals=dict(args.proposal),
        quick=args.quick,
        train_steps=sizes["train_steps"],
        arms=tuple(args.arms),
    )
    for name in EXPERIMENTS if args.name == "all" else (args.name,):
        module = importlib.import_module(EXPERIMENTS[name][0])
        results = module.run(common)
        folder = args.out / name
        try:
            table = "\n".join(module.table(results))
            print(table)
            (folder / "table.md").write_text(table + "\n", encoding="utf-8")
            module.plot(folder / f"{name}.png", results)
        except KeyError as error:
            if not args.arms:
                raise
            print(f"no table or plot yet: they need the arm {error}, which has not been measured")
        if args.video and hasattr(module, "film"):
            for path in module.film(common):
                print(f"wrote {path}")
        print(f"wrote {folder}")
    return 0


def _replacement(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not (name and separator and Path(path).is_file()):
        raise argparse.ArgumentTypeError(f"expected NAME=FILE with an existing file, got {text!r}")
    return name, Path(path)


def _trainer(name: str, *inputs: Any, **options: Any) -> Path:
    """A trainer, and torch with it, only where an arm needs it."""
    from dmpc_fast.training.run import StalePolicyWarning

    with warnings.catch_warnings():
        # Experiments plan with what they train: nothing acts by its policy.
        warnings.simplefilter("ignore", StalePolicyWarning)
        path: Path = getattr(importlib.import_module(TRAINERS[name]), name)(*inputs, **options)
    return path
