"""`dmpc-fast diagnose`: what limits a model's score."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dmpc_fast.cli.evaluate import add_planner_arguments


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "diagnose",
        help="hold a planner's candidates against MuJoCo and say what limits the score",
    )
    parser.add_argument("model", help="model file, a run's folder, or the name of a shipped model")
    parser.add_argument("--env", required=True, help="Gymnasium id, such as Walker2d-v5")
    parser.add_argument("--episodes", type=int, default=4, help="to drive (default: 4)")
    parser.add_argument(
        "--starts", type=int, default=24, help="plans of them to look at (default: 24)"
    )
    parser.add_argument(
        "--candidates", type=int, default=256, help="drawn at each start (default: 256)"
    )
    parser.add_argument(
        "--continuation",
        type=int,
        default=64,
        help="steps after each candidate's own that count for its true return (default: 64)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="episode i is reset with seed + i (default: 0)"
    )
    add_planner_arguments(parser)
    parser.add_argument("--threads", type=int, help="of the backend and of the physics")
    parser.add_argument(
        "--dataset", metavar="ID", help="compare the spread of proposals with this data's actions"
    )
    parser.add_argument(
        "--modify", action="append", default=[], metavar="CHANGE", help="change the robot"
    )
    parser.add_argument("--max-steps", type=int, help="end episodes after so many steps")
    parser.add_argument("--allow-period-mismatch", action="store_true")
    parser.add_argument("--no-progress", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it (.png, .svg or .pdf)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write diagnosis.json and diagnosis.png there"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    from dmpc_fast.assets import resolve
    from dmpc_fast.evaluation.diagnose import diagnose

    model = resolve(args.model)
    for path in (args.json, args.plot):
        if path is not None and not path.absolute().parent.is_dir():
            raise FileNotFoundError(f"the folder of {path} does not exist")
    names = (
        "episodes", "starts", "candidates", "continuation", "num_samples", "action_chunk", "seed",
        "backend", "dtype", "threads", "dataset", "modify", "max_steps", "allow_period_mismatch",
    )  # fmt: skip
    options = {name: getattr(args, name) for name in names}
    result = diagnose(model, args.env, progress=not args.no_progress, **options)
    print("\n".join(result.lines()))
    tables, plots = [args.json], [args.plot]
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        tables.append(args.out / "diagnosis.json")
        plots.append(args.out / "diagnosis.png")
    for path in filter(None, tables):
        path.write_text(result.to_json() + "\n", encoding="utf-8")
        print(f"wrote {path}")
    for path in filter(None, plots):
        from dmpc_fast.evaluation.diagnosis_plot import plot_diagnosis

        plot_diagnosis(path, result.report)
        print(f"wrote {path}")
    return 0
