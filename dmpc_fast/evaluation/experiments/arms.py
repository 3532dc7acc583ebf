"""Arms of an experiment: each is run once and kept as a JSON file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dmpc_fast.assets import resolve
from dmpc_fast.evaluation.evaluate import software_versions
from dmpc_fast.evaluation.experiments.mixed_model import with_proposal


@dataclass(frozen=True)
class Common:
    """What all arms share.

    Episode i is reset with seed + i. num_samples: candidates per plan, the model's recommendation
    where None. batch: episodes at once. num_elites: the model's recommendation where None. models:
    files in place of shipped models, by their names; proposals: files whose proposal alone takes the
    place of the model's. quick: a smaller grid of arms. trainers: `train`, `finetune` and `distill`
    by name; training knows no evaluation, nor evaluation it. training: options that all of them get.
    finetune_steps: of the optimiser; train_steps: of models that an experiment trains itself, its
    own choice where None. arms: patterns (`fnmatch`) of the arms to measure, all of them where empty.
    """

    out: Path
    episodes: int = 20
    seed: int = 10_000
    backend: str = "auto"
    dtype: str = "float32"
    num_samples: int | None = None
    batch: int = 8
    threads: int | None = None
    max_steps: int | None = None
    progress: bool = True
    num_elites: int | None = None
    models: dict[str, Path] = field(default_factory=dict)
    proposals: dict[str, Path] = field(default_factory=dict)
    quick: bool = False
    trainers: Mapping[str, Callable[..., Path]] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    finetune_steps: int = 2000
    train_steps: int | None = None
    arms: tuple[str, ...] = ()

    def model(self, name: str) -> Path:
        """The file that plays the part of the shipped model `name`."""
        path = self.models.get(name) or resolve(name)
        if name in self.proposals:
            return with_proposal(path, resolve(self.proposals[name]), self.out / "models")
        return path

    def described(self) -> dict[str, Any]:
        """The settings that a result depends on."""
        names = ("episodes", "seed", "backend", "dtype", "num_samples", "max_steps")
        settings = {name: getattr(self, name) for name in names}
        return settings if self.num_elites is None else {**settings, "num_elites": self.num_elites}

    def options(self) -> dict[str, Any]:
        """Options of the backend."""
        return {} if self.threads is None else {"threads": self.threads}


@dataclass(frozen=True)
class Arm:
    """One row of an experiment.

    settings: all that its result depends on, as JSON; they are kept beside the result, and an arm
    whose file has other ones runs again.
    """

    name: str
    settings: dict[str, Any]
    measure: Callable[[], dict[str, Any]]


def run_arms(
    folder: Path, arms: Sequence[Arm], *, progress: bool, only: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Results by arm's name, each with its `settings`: read where they are there, else measured and
    written to `folder`; where `only` has patterns, arms that match none are read and never measured.

    Interrupted, it goes on where it was. Raises ValueError where no arm matches a pattern.
    """
    wanted = {arm.name for arm in arms if _matches(arm.name, only)}
    if not wanted:
        raise ValueError(f"no arm matches {list(only)}; there are {[arm.name for arm in arms]}")
    folder.mkdir(parents=True, exist_ok=True)
    results = {}
    bar = tqdm(arms, unit="arm", desc=folder.name, disable=None if progress else True)
    for arm in bar:
        bar.set_postfix_str(arm.name)
        path = folder / f"{arm.name}.json"
        # As JSON has them: tuples are lists there.
        settings = json.loads(json.dumps(arm.settings))
        found = _read(path)
        if found is None or found.get("settings") != settings:
            if arm.name not in wanted:
                continue
            found = {
                "arm": arm.name,
                "settings": settings,
                "result": arm.measure(),
                "versions": software_versions(),
            }
            write_json(path, found)
        results[arm.name] = {**found["result"], "settings": settings}
    return results


def _matches(name: str, only: Sequence[str]) -> bool:
    return not only or any(fnmatchcase(name, pattern) for pattern in only)


def write_json(path: Path, data: Any) -> None:
    """Write JSON that appears when it is whole."""
    partial = path.with_name(f".{path.name}.partial")
    text = json.dumps(data, indent=1, allow_nan=False)
    partial.write_text(text + "\n", encoding="utf-8")
    os.replace(partial, path)


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    data = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise ValueError(f"{path} must hold an arm's result, got {type(data).__name__}")
    return data
