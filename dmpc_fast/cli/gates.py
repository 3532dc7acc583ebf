"""`dmpc-fast gates`: whether a few-step student still does what its teacher did."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "gates", help="hold a few-step student against its many-step teacher"
    )
    parser.add_argument("student", help="model file, a run's folder, or a shipped model's name")
    parser.add_argument("--teacher", required=True, help="the same, of the teacher")
    parser.add_argument(
        "--dataset", action="append", required=True, metavar="ID", help="states to start from"
    )
    parser.add_argument("--env", help="also drive episodes: predicted against realised return")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="for gates.json, .png"
    )
    parser.add_argument("--starts", type=int, default=64, help="states (default: 64)")
    parser.add_argument(
        "--candidates", type=int, default=256, help="drawn at each state (default: 256)"
    )
    parser.add_argument(
        "--student-steps",
        type=steps,
        metavar="P,D",
        help="equal DDIM steps of proposal and dynamics in place of the student's own samplers",
    )
    parser.add_argument(
        "--teacher-steps", type=steps, default=(32, 10), metavar="P,D", help="(default: 32,10)"
    )
    parser.add_argument("--episodes", type=int, default=4, help="to drive (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="of states and episodes (default: 0)")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--dtype", choices=("float32", "bf16", "int8"), default="float32")
    parser.add_argument("--threads", type=int, help="of the backend")
    parser.add_argument("--max-steps", type=int, help="end episodes after so many steps")
    parser.add_argument("--no-progress", action="store_true")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 unless every target is passed"
    )
    return parser


def steps(text: str) -> tuple[int, int]:
    """Two counts from a text such as 32,10."""
    parts = text.split(",")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"expected two counts such as 32,10, got {text!r}")
    return int(parts[0]), int(parts[1])


def run(args: argparse.Namespace) -> int:
    from dmpc_fast.assets import resolve
    from dmpc_fast.evaluation.gates import gates
    from dmpc_fast.evaluation.gates_plot import plot_gates

    args.out.mkdir(parents=True, exist_ok=True)
    names = (
        "starts", "candidates", "student_steps", "teacher_steps", "episodes", "seed", "backend",
        "dtype", "threads", "max_steps",
    )  # fmt: skip
    result = gates(
        resolve(args.student),
        resolve(args.teacher),
        args.dataset,
        env_id=args.env,
        progress=not args.no_progress,
        **{name: getattr(args, name) for name in names},
    )
    print("\n".join(result.lines()))
    (args.out / "gates.json").write_text(result.to_json() + "\n", encoding="utf-8")
    plot_gates(args.out / "gates.png", result.report)
    print(f"wrote {args.out / 'gates.json'} and {args.out / 'gates.png'}")
    return 0 if result.passed or not args.check else 1
