"""`dmpc-fast compare`: whether one way to plan is no worse than another, over several data sets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "compare", help="hold evaluations against others of the same sets and seeds"
    )
    parser.add_argument(
        "evaluations", nargs="+", type=Path, metavar="FILE", help="JSON files of `evaluate`"
    )
    parser.add_argument(
        "--against", nargs="+", type=Path, required=True, metavar="FILE", help="likewise, one each"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 unless the first are not inferior"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    from dmpc_fast.evaluation.noninferiority import compare

    result = compare(args.evaluations, args.against)
    print("\n".join(result.lines()))
    if args.json is not None:
        args.json.write_text(result.to_json() + "\n", encoding="utf-8")
    return 0 if result.passed or not args.check else 1
