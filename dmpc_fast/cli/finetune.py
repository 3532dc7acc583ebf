"""`dmpc-fast finetune`: adapt the dynamics model alone to new data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dmpc_fast.cli.train import add_training_arguments, training_options


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "finetune", help="adapt the dynamics model alone to new data"
    )
    parser.add_argument("model", help="model file, or the name of a shipped model")
    parser.add_argument(
        "--dataset", action="append", required=True, help="Minari id of the play data; repeatable"
    )
    add_training_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    from dmpc_fast.assets import resolve
    from dmpc_fast.training.api import FINETUNE_STEPS, finetune

    path: Path = finetune(
        resolve(args.model),
        args.dataset,
        steps=args.steps or FINETUNE_STEPS,
        **training_options(args),
    )
    print(path)
    return 0
