"""The best recipe of each dataset, from data to score in one command.

    python -m benchmarks.recipes hopper-medium-replay --out runs
    python -m benchmarks.recipes hopper-medium-replay --print

trains, distils where the recipe has a student, and evaluates on 50 episodes from seed 10000. A command
that was interrupted goes on where it was, one that is done is not run again. What the recipes were
chosen by, and their scores, stand in `docs/recipes.md`.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

#: What all recipes share; threads, since two trainings on two cores are faster than one on both.
COMMON = "--preset small --return-temperature 0.3 --num-samples 64 --threads 1"
#: Walker2d with its legs exchanged does the same ("A mirrored robot").
MIRROR = "--mirror-states 0 1 5 6 7 2 3 4 8 9 10 14 15 16 11 12 13 --mirror-actions 3 4 5 0 1 2"
#: A horizon of 8 learns in a third of the steps ("A short horizon"), but for a mixture's proposal.
SHORT = "--horizon 8 --dynamics-train-steps 3000 --objective-train-steps 3000"
WALKER = f"--patch 4 --start-fraction 0.15 {MIRROR}"
HOPPER = "--patch 4 --start-fraction 0.15"
CHEETAH = (
    "--horizon 8 --patch 2 --discount 0.95 --objective-train-steps 2000 --start-fraction 0.2 "
    "--action-chunk 1"
)


@dataclass(frozen=True)
class Recipe:
    """environment: Gymnasium id. datasets: Minari ids. options: of `dmpc-fast train`. student: whether
    the proposal is distilled to one evaluation, which is then what is evaluated."""

    environment: str
    datasets: tuple[str, ...]
    options: str
    student: bool = True

    def commands(
        self, name: str, out: Path, episodes: int, seed: int, training_seed: int = 0
    ) -> list[Step]:
        """What is run, in order: `name` is that of the run's folder and report in `out`, `seed` the
        first episode's. A student takes its teacher's training seed."""
        teacher, student = out / name, out / f"{name}-fast"
        data = [word for dataset in self.datasets for word in ("--dataset", dataset)]
        options = [*shlex.split(f"{COMMON} {self.options}"), "--seed", str(training_seed)]
        train = ["train", *data, *options, "--out", str(teacher)]
        steps = [Step(train, teacher / "model.safetensors", teacher / "settings.json")]
        if self.student:
            distill = ["distill", str(teacher), "--threads", "1", "--out", str(student)]
            steps.append(Step(distill, student / "model.safetensors", student / "settings.json"))
        model = student if self.student else teacher
        report = out / f"{name}.json"
        evaluate = [
            "evaluate", str(model), "--env", self.environment, "--episodes", str(episodes),
            "--batch", "25", "--seed", str(seed), "--json", str(report),
        ]  # fmt: skip
        return [*steps, Step(evaluate, report, None)]


@dataclass(frozen=True)
class Step:
    """Arguments of one `dmpc-fast`, the file that says that it is done, and the one by which it can
    be resumed, None where it starts anew."""

    arguments: list[str]
    done: Path
    resumable: Path | None


def _robot(name: str) -> dict[str, tuple[str, ...]]:
    sets = {kind: f"dmpc/{name}/{kind}-v0" for kind in ("medium", "medium-replay", "expert")}
    return {
        "medium": (sets["medium"],),
        "medium-replay": (sets["medium-replay"],),
        "medium-expert": (sets["medium"], sets["expert"]),
    }


def _recipes() -> dict[str, Recipe]:
    hopper, walker, cheetah = _robot("hopper"), _robot("walker2d"), _robot("halfcheetah")

    def of(robot: str, data: tuple[str, ...], options: str, student: bool = True) -> Recipe:
        return Recipe(f"{robot}-v5", data, options, student)

    return {
        "hopper-medium-replay": of(
            "Hopper", hopper["medium-replay"], f"{HOPPER} --action-chunk 4 --num-elites 4"
        ),
        "hopper-medium": of(
            "Hopper", hopper["medium"], f"{HOPPER} --action-chunk 4 --num-elites 32"
        ),
        # Dynamics of one step do not beat these here ("Mixtures of medium and expert data").
        "hopper-medium-expert": of(
            "Hopper",
            hopper["medium-expert"],
            f"{HOPPER} --muon --dynamics-steps 3 --dynamics-angles all --horizon-weighting 0 "
            "--action-chunk 2 --num-elites 16",
            False,
        ),
        "walker2d-medium-replay": of(
            "Walker2d", walker["medium-replay"], f"{WALKER} --action-chunk 4 --num-elites 4"
        ),
        "walker2d-medium": of(
            "Walker2d",
            walker["medium"],
            f"{WALKER} {SHORT} --proposal-train-steps 3000 --action-chunk 2 --num-elites 8",
            False,
        ),
        "walker2d-medium-expert": of(
            "Walker2d",
            walker["medium-expert"],
            f"{WALKER} {SHORT} --action-chunk 1 --num-elites 32",
            False,
        ),
        "halfcheetah-medium-replay": of(
            "HalfCheetah", cheetah["medium-replay"], f"{CHEETAH} --num-elites 8"
        ),
        "halfcheetah-medium": of("HalfCheetah", cheetah["medium"], f"{CHEETAH} --num-elites 8"),
        "halfcheetah-medium-expert": of(
            "HalfCheetah",
            cheetah["medium-expert"],
            f"{CHEETAH} --proposal-train-steps 20000 --num-elites 32",
        ),
        # Trajectories of one token, networks without attention: what plans fastest.
        "hopper-medium-replay-one-token": of(
            "Hopper",
            hopper["medium-replay"],
            f"{HOPPER} --patch 32 --action-chunk 4 --num-elites 4",
        ),
        "hopper-medium-replay-two-tokens": of(
            "Hopper",
            hopper["medium-replay"],
            f"{HOPPER} --patch 16 --action-chunk 4 --num-elites 4",
        ),
        "hopper-medium-one-token": of(
            "Hopper", hopper["medium"], f"{HOPPER} --patch 32 --action-chunk 4 --num-elites 32"
        ),
        "walker2d-medium-replay-one-token": of(
            "Walker2d",
            walker["medium-replay"],
            f"{WALKER} {SHORT} --patch 8 --proposal-train-steps 3000 --action-chunk 4 "
            "--num-elites 4",
        ),
        "walker2d-medium-one-token": of(
            "Walker2d",
            walker["medium"],
            f"{WALKER} {SHORT} --patch 8 --proposal-train-steps 3000 --action-chunk 2 "
            "--num-elites 8",
        ),
        "halfcheetah-medium-replay-one-token": of(
            "HalfCheetah", cheetah["medium-replay"], f"{CHEETAH} --patch 8 --num-elites 8"
        ),
        "halfcheetah-medium-one-token": of(
            "HalfCheetah", cheetah["medium"], f"{CHEETAH} --patch 8 --num-elites 8"
        ),
    }


RECIPES = _recipes()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=RECIPES, help="robot and data")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder (default: runs)")
    parser.add_argument("--training-seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=10_000)
    parser.add_argument("--print", action="store_true", help="only say what would be run")
    args = parser.parse_args()
    seed = args.training_seed
    name = f"{args.name}-seed{seed}" if seed else args.name
    for step in RECIPES[args.name].commands(name, args.out, args.episodes, args.seed, seed):
        resume = step.resumable is not None and step.resumable.exists()
        arguments = [*step.arguments, *(["--resume"] if resume else [])]
        print("dmpc-fast", shlex.join(arguments), flush=True)
        if args.print:
            continue
        if step.done.exists():
            print(f"{step.done} is there already")
            continue
        args.out.mkdir(parents=True, exist_ok=True)
        code = subprocess.call([sys.executable, "-m", "dmpc_fast", *arguments])
        if code:
            sys.exit(code)


if __name__ == "__main__":
    main()
