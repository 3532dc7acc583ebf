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
    parser.add_argument(
        "--method",
        choices=("full", "last-layers", "lora"),
        default="full",
        help="change all weights, those of the last layers, or low-rank factors that are merged into "
        "the file (default: %(default)s)",
    )
    for name, kind, text in (
        ("--last-layers", int, "blocks that --method last-layers changes, beside the output layer"),
        ("--lora-rank", int, "of the factors of --method lora"),
        ("--lora-alpha", float, "factors count alpha / rank"),
    ):
        parser.add_argument(name, type=kind, help=text)
    add_training_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    from dmpc_fast.assets import resolve
    from dmpc_fast.training.api import FINETUNE_STEPS, finetune

    path: Path = finetune(
        resolve(args.model),
        args.dataset,
        steps=args.steps or FINETUNE_STEPS,
        method=args.method.replace("-", "_"),
        **_given(args),
        **training_options(args),
    )
    print(path)
    return 0


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """Sizes of the method. Raises ValueError for those of another one."""
    methods = {"last_layers": "last-layers", "lora_rank": "lora", "lora_alpha": "lora"}
    given = {name: getattr(args, name) for name in methods if getattr(args, name) is not None}
    for name in given:
        if args.method != methods[name]:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} is for --method {methods[name]}, got {args.method}")
    return given
