"""`dmpc-fast evaluate`: how good a model is, over many episodes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "evaluate", help="run episodes of a model's planner and score them"
    )
    parser.add_argument("model", help="model file, a run's folder, or the name of a shipped model")
    parser.add_argument("--env", required=True, help="Gymnasium id, such as Walker2d-v5")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument(
        "--seed", type=int, default=10_000, help="episode i is reset with seed + i (default: 10000)"
    )
    add_planner_arguments(parser)
    add_episode_arguments(parser)
    parser.add_argument(
        "--mode",
        choices=("plan", "policy"),
        default="plan",
        help="what acts: plans, or the model's reactive policy (default: plan)",
    )
    parser.add_argument(
        "--warm-start",
        type=float,
        metavar="ANGLE",
        help="half of the candidates start from the plan before, re-noised to this angle (radians)",
    )
    parser.add_argument(
        "--search-rounds", type=int, metavar="N", help="further rounds near the best candidates"
    )
    parser.add_argument("--search-angle", type=float, metavar="ANGLE", help="of the re-noising")
    parser.add_argument("--search-parents", type=int, metavar="N", help="best ones of a round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    parser.add_argument(
        "--video", type=Path, metavar="FILE", help="film one more episode, of --seed (.mp4 or .gif)"
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="draw returns, and predictions beside what happened",
    )
    return parser


def add_planner_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the planner, which collecting shares."""
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--dtype", choices=("float32", "bf16", "int8"), default="float32")
    parser.add_argument(
        "--num-samples", type=int, help="candidates per plan (default: the model's recommendation)"
    )
    parser.add_argument(
        "--action-chunk",
        type=int,
        help="actions run per plan (default: the model's recommendation)",
    )
    parser.add_argument(
        "--num-elites",
        type=int,
        help="run the mean of so many best candidates (default: the model's recommendation)",
    )


def add_episode_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the episodes, which collecting shares."""
    parser.add_argument(
        "--modify",
        action="append",
        default=[],
        metavar="CHANGE",
        help="change the robot, such as 'actuator[foot_joint].ctrlrange=-0.5,0.5'; repeatable",
    )
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--batch", type=int, help="episodes at once in each process")
    parser.add_argument("--max-steps", type=int, help="end episodes after so many steps")
    parser.add_argument(
        "--allow-period-mismatch",
        action="store_true",
        help="drive an environment whose control period is not the model's",
    )
    parser.add_argument("--no-progress", action="store_true")


def episode_options(args: argparse.Namespace) -> dict[str, Any]:
    """What the two groups of options say, as keyword arguments."""
    names = (
        "backend", "dtype", "num_samples", "action_chunk", "num_elites", "modify", "workers",
        "batch", "max_steps", "allow_period_mismatch", "seed",
    )  # fmt: skip
    return {**{name: getattr(args, name) for name in names}, "progress": not args.no_progress}


def run(args: argparse.Namespace) -> int:
    from dmpc_fast.assets import resolve
    from dmpc_fast.evaluation.evaluate import evaluate

    model = resolve(args.model)
    for path in (args.json, args.video, args.plot):
        if path is not None and not path.absolute().parent.is_dir():
            raise FileNotFoundError(f"the folder of {path} does not exist")
    if args.mode == "policy" and (args.video is not None or args.plot is not None):
        raise ValueError("--video and --plot show plans, which --mode policy makes none of")
    options = search_options(args)
    result = evaluate(
        model,
        args.env,
        episodes=args.episodes,
        planner_options={"mode": args.mode, **options},
        **episode_options(args),
    )
    if args.json is not None:
        args.json.write_text(result.to_json() + "\n", encoding="utf-8")
    print("\n".join(summary_lines(result.summary())))
    if args.video is not None or args.plot is not None:
        _show_one(args, model, result, options)
    return 0


def summary_lines(summary: dict[str, Any]) -> list[str]:
    """A result's summary for a person to read."""
    lines = []
    for name in ("score", "return", "length"):
        if name in summary:
            part = summary[name]
            quantiles = part["quantiles"]
            lines.append(
                f"{name:10} {part['mean']:9.2f} ± {part['standard_error']:.2f}   "
                f"median {quantiles['0.5']:.2f}, range {quantiles['0']:.2f} to {quantiles['1']:.2f}"
            )
    lines.append(f"{'terminated':10} {100 * summary['terminated']:8.0f} %")
    lines.append(f"{'episodes':10} {summary['episodes']:9d}")
    latency = summary["plan_latency"]
    if latency["plans"]:
        lines.append(
            f"{'plan':10} {latency['median_ms']:9.2f} ms median, {latency['p99_ms']:.2f} ms p99, "
            f"for {latency['mean_robots_per_plan']:.1f} robots at once on average"
        )
    if "throughput" in summary:
        part = summary["throughput"]
        lines.append(
            f"{'throughput':10} {part['episodes_per_minute']:9.1f} episodes a minute, "
            f"{part['steps_per_second']:.0f} steps a second, "
            f"{100 * part['planning_share']:.0f} % of the time in plans"
        )
    return lines


def search_options(args: argparse.Namespace) -> dict[str, Any]:
    """How plans begin and go on, as options of `Planner.load`; empty where nothing was said."""
    from dmpc_fast.planning.iterated_search import IteratedSearch
    from dmpc_fast.planning.warm_start import WarmStart

    options: dict[str, Any] = {}
    if args.warm_start is not None:
        options["warm_start"] = WarmStart(args.warm_start)
    given = {"angle": args.search_angle, "parents": args.search_parents}
    given = {name: value for name, value in given.items() if value is not None}
    if args.search_rounds is not None:
        options["search"] = IteratedSearch(args.search_rounds, **given)
    elif given:
        raise ValueError("--search-angle and --search-parents are of --search-rounds: give it, too")
    return options


def _show_one(
    args: argparse.Namespace, model: Path, result: Any, planner_options: dict[str, Any]
) -> None:
    """Run one episode more, alone, and draw or film it."""
    from dmpc_fast.evaluation.trace import trace_episode

    trace = trace_episode(
        model,
        args.env,
        seed=args.seed,
        backend=args.backend,
        dtype=args.dtype,
        num_samples=args.num_samples,
        action_chunk=args.action_chunk,
        num_elites=args.num_elites,
        modify=args.modify,
        max_steps=args.max_steps,
        allow_period_mismatch=args.allow_period_mismatch,
        film=args.video is not None,
        planner_options=planner_options,
    )
    if args.video is not None:
        from dmpc_fast.evaluation.video import write_video

        write_video(args.video, trace.frames, trace.control_period_s)
        print(f"wrote {args.video}")
    if args.plot is not None:
        from dmpc_fast.evaluation.plots import plot_evaluation

        plot_evaluation(args.plot, result, trace)
        print(f"wrote {args.plot}")
