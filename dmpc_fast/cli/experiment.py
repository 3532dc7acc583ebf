"""`dmpc-fast experiment`: what makes it MPC, measured: new rewards, new dynamics, misfit."""

from __future__ import annotations

import argparse
import importlib
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
}


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
    parser.add_argument("--episodes", type=int, default=20, help="per arm (default: 20)")
    parser.add_argument(
        "--seed", type=int, default=10_000, help="episode i is reset with seed + i (default: 10000)"
    )
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--dtype", choices=("float32", "bf16", "int8"), default="float32")
    parser.add_argument(
        "--num-samples", type=int, help="candidates per plan (default: the model's recommendation)"
    )
    parser.add_argument("--batch", type=int, default=8, help="episodes at once (default: 8)")
    parser.add_argument("--threads", type=int, help="of the backend")
    parser.add_argument("--max-steps", type=int, help="end episodes after so many steps")
    parser.add_argument(
        "--finetune-steps", type=int, default=2000, help="of the optimiser (default: 2000)"
    )
    parser.add_argument("--no-progress", action="store_true")
    return parser


def run(args: argparse.Namespace) -> int:
    if args.name == "list":
        for name, (_, shows) in EXPERIMENTS.items():
            print(f"{name:16} {shows}")
        return 0
    from dmpc_fast.evaluation.experiments.arms import Common

    if args.episodes < 1 or args.batch < 1:
        raise ValueError(
            f"--episodes and --batch must be at least 1, got {args.episodes} and {args.batch}"
        )
    common = Common(
        out=args.out,
        episodes=args.episodes,
        seed=args.seed,
        backend=args.backend,
        dtype=args.dtype,
        num_samples=args.num_samples,
        batch=args.batch,
        threads=args.threads,
        max_steps=args.max_steps,
        progress=not args.no_progress,
        finetune=_finetune,
        finetune_steps=args.finetune_steps,
    )
    for name in EXPERIMENTS if args.name == "all" else (args.name,):
        module = importlib.import_module(EXPERIMENTS[name][0])
        results = module.run(common)
        table = "\n".join(module.table(results))
        print(table)
        folder = args.out / name
        (folder / "table.md").write_text(table + "\n", encoding="utf-8")
        module.plot(folder / f"{name}.png", results)
        print(f"wrote {folder}")
    return 0


def _finetune(*args: Any, **options: Any) -> Path:
    """The trainer, and torch with it, only where an arm needs it."""
    from dmpc_fast.training.api import finetune

    return finetune(*args, **options)
