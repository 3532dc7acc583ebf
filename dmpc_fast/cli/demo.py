"""`dmpc-fast demo`: a shipped model drives a MuJoCo robot at its control rate, offline."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmpc_fast.assets import shipped_models

if TYPE_CHECKING:
    from dmpc_fast.evaluation.drive import Drive

DEFAULT = "hopper"


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "demo", help="let a shipped model drive a robot in MuJoCo, in real time where it can"
    )
    parser.add_argument("--env", choices=shipped_models(), default=DEFAULT)
    parser.add_argument("--model", help="a model of your own, which names its environment")
    parser.add_argument("--episodes", type=int, default=1)
    parser.add_argument("--steps", type=int, help="end each episode after this many steps")
    parser.add_argument("--seed", type=int, help="of the first episode; the default is 10000")
    parser.add_argument("--backend", default="auto", help="auto, cpu or torch")
    parser.add_argument(
        "--num-samples", type=int, help="candidates; the default is the model's own"
    )
    parser.add_argument("--unpaced", action="store_true", help="run on at once after an early plan")
    parser.add_argument("--video", type=Path, metavar="FILE", help="film it (.mp4 or .gif)")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="drive the same episodes by the planner, its proposal alone, its policy and its teacher",
    )
    parser.add_argument(
        "--teacher", help="of --compare; the default is the one that ships with the model, if any"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    from dmpc_fast.assets import resolve
    from dmpc_fast.evaluation.environments import check_environment, make_environment
    from dmpc_fast.evaluation.video import choose_renderer, write_video
    from dmpc_fast.planning.planner import Planner

    if args.episodes < 1:
        raise ValueError(f"--episodes must be at least 1, got {args.episodes}")
    if args.teacher is not None and not args.compare:
        raise ValueError(f"--teacher {args.teacher} is for --compare, which was not given")
    if args.compare:
        return _compare(args)
    if args.video is not None:
        if not args.video.absolute().parent.is_dir():
            raise FileNotFoundError(f"the folder of {args.video} does not exist")
        choose_renderer()
    path = resolve(args.model or args.env)
    planner = Planner.load(path, backend=args.backend, num_samples=args.num_samples)
    name = planner.spec.environment.id
    if name is None:
        raise ValueError(f"{path} names no environment to drive")
    environment = make_environment(name, render_mode="rgb_array" if args.video else None)
    frames: list[Any] = []
    try:
        check_environment(environment, planner.spec)
        print("\n".join(introduction(planner, path)), flush=True)
        drives = list(_drives(args, environment, planner, frames))
    finally:
        environment.close()
    print("\n".join(summary(drives, paced=not args.unpaced)))
    if args.video is not None:
        write_video(args.video, frames, drives[0].period_s)
        print(f"wrote {args.video}")
    return 0


def _compare(args: argparse.Namespace) -> int:
    """A table of the ways to drive; films nothing."""
    from dmpc_fast.assets import name_of, resolve
    from dmpc_fast.cli.demo_compare import controllers, table
    from dmpc_fast.evaluation.environments import check_environment, make_environment
    from dmpc_fast.model_file import load_model

    if args.video is not None:
        raise ValueError(f"--video {args.video} films one controller; leave --compare out")
    path = resolve(args.model or args.env)
    teacher = args.teacher
    if teacher is None and f"{name_of(path)}-teacher" in shipped_models():
        teacher = f"{name_of(path)}-teacher"
    environment_id = load_model(path).spec.environment.id
    if environment_id is None:
        raise ValueError(f"{path} names no environment to drive")
    environment = make_environment(environment_id)

    def run(planner: Any) -> list[Drive]:
        check_environment(environment, planner.spec)
        return list(_episodes(args, environment, planner))

    try:
        ways = controllers(
            path, None if teacher is None else resolve(teacher), args.num_samples, args.backend
        )
        count = f"{args.episodes} episode{'' if args.episodes == 1 else 's'}"
        print(f"{environment_id}, {count} of each", flush=True)
        for line in table(ways, run):
            print(line, flush=True)
    finally:
        environment.close()
    return 0


def _episodes(
    args: argparse.Namespace,
    environment: Any,
    planner: Any,
    after_step: Callable[[Any], None] | None = None,
) -> Iterator[Drive]:
    """Every episode as it ends."""
    from dmpc_fast.evaluation.drive import drive
    from dmpc_fast.evaluation.evaluate import FIRST_EVALUATION_SEED

    first = FIRST_EVALUATION_SEED if args.seed is None else args.seed
    for seed in range(first, first + args.episodes):
        yield drive(
            environment,
            planner,
            seed=seed,
            max_steps=args.steps,
            paced=not args.unpaced,
            after_step=after_step,
        )


def _drives(
    args: argparse.Namespace, environment: Any, planner: Any, frames: list[Any]
) -> Iterator[Drive]:
    """Every episode as it ends, its line printed; pictures go to `frames` if there is a video."""
    from dmpc_fast.evaluation.evaluate import FIRST_EVALUATION_SEED

    def film(environment: Any) -> None:
        frames.append(environment.render())

    first = FIRST_EVALUATION_SEED if args.seed is None else args.seed
    driven = _episodes(args, environment, planner, film if args.video is not None else None)
    for seed, done in enumerate(driven, first):
        print(episode_line(seed, done, planner.spec.environment.id), flush=True)
        yield done


def introduction(planner: Any, path: Path) -> Iterator[str]:
    """What is about to drive what."""
    spec = planner.spec
    period = spec.environment.control_period_s
    yield f"{spec.environment.id} every {period * 1e3:g} ms, driven by {path.name}"
    elites = planner.num_elites
    chosen = "the best one" if elites == 1 else f"the mean of the {elites} best"
    actions = "action" if planner.action_chunk == 1 else "actions"
    yield (
        f"backend {planner.backend} ({planner.dtype}): {planner.num_samples} candidates of "
        f"{spec.horizon} steps, {planner.action_chunk} {actions} of {chosen} run before the next plan"
    )


def episode_line(seed: int, drive: Drive, environment_id: str) -> str:
    """Return, normalised score where the task has one, and how the episode ended."""
    from dmpc_fast.evaluation.scores import normalized_score, score_range

    references = score_range(environment_id)
    score = ""
    if references is not None:
        value = float(normalized_score(drive.episode_return, references))
        score = f", normalised score {value:.1f}"
    end = "fell" if drive.terminated else "ended"
    return (
        f"seed {seed}: return {drive.episode_return:.1f}{score}, "
        f"{end} after {drive.length} steps ({drive.length * drive.period_s:.1f} s)"
    )


def summary(drives: Sequence[Drive], *, paced: bool) -> Iterator[str]:
    """Latency, deadlines and slow-down over all episodes."""
    import numpy as np

    plans = 1e3 * np.concatenate([drive.plan_s for drive in drives])
    p50, p99 = np.quantile(plans, [0.5, 0.99])
    steps = sum(drive.length for drive in drives)
    missed = sum(drive.missed for drive in drives)
    period = drives[0].period_s
    slow_down = sum(drive.wall_s for drive in drives) / (steps * period)
    yield f"plan latency: p50 {p50:.2f} ms, p99 {p99:.2f} ms over {len(plans)} plans"
    yield f"missed deadlines: {missed} of {steps} ({100 * missed / steps:.1f} %)"
    if slow_down > 1.01:
        yield f"slow-down: {slow_down:.2f}; the physics waited for the plans"
    elif paced:
        yield f"slow-down: {slow_down:.2f} (real time)"
    else:
        yield f"slow-down: {slow_down:.2f} ({1 / slow_down:.1f} x faster than real time)"
