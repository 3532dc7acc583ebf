"""`dmpc-fast collect`: record a Minari dataset with a model or with random actions."""

from __future__ import annotations

import argparse
from typing import Any

from dmpc_fast.cli.evaluate import add_episode_arguments, add_planner_arguments, episode_options


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "collect", help="record a Minari dataset with a model or with random actions"
    )
    parser.add_argument("--env", required=True, help="Gymnasium id, such as Hopper-v5")
    parser.add_argument(
        "--model",
        required=True,
        help="model file, a run's folder, the name of a shipped model, or 'random'",
    )
    parser.add_argument("--steps", type=int, required=True, help="record at least so many steps")
    parser.add_argument("--dataset", required=True, help="id to give, such as my/hopper/play-v0")
    parser.add_argument(
        "--seed", type=int, default=0, help="episode i is reset with seed + i (default: 0)"
    )
    parser.add_argument("--format", choices=("hdf5", "arrow"), default="hdf5", help="of the data")
    parser.add_argument("--overwrite", action="store_true", help="replace a dataset of that id")
    add_planner_arguments(parser)
    add_episode_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    from dmpc_fast.assets import resolve
    from dmpc_fast.evaluation.collect import RANDOM, collect

    result = collect(
        args.env,
        args.dataset,
        model=RANDOM if args.model == RANDOM else resolve(args.model),
        steps=args.steps,
        data_format=args.format,
        overwrite=args.overwrite,
        **episode_options(args),
    )
    print(
        f"{result.dataset_id}: {result.steps} steps in {len(result.returns)} episodes, mean return "
        f"{result.returns.mean():.2f}, in {result.path}"
    )
    return 0
