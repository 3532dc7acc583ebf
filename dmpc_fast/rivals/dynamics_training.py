"""Training of rival dynamics on equal terms: one grid of learning rates, one budget, one test set."""

from __future__ import annotations

import functools
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmpc_fast.backends import registry
from dmpc_fast.data.episodes import EpisodeStore
from dmpc_fast.data.minari import load_episodes
from dmpc_fast.data.windows import Windows, split_episodes
from dmpc_fast.evaluation.experiments.arms import Common, write_json
from dmpc_fast.evaluation.experiments.trained import named_by_content, own_training
from dmpc_fast.model_file import Model, load_model
from dmpc_fast.rivals.lone_stage import stage_parameters
from dmpc_fast.rivals.open_loop import open_loop
from dmpc_fast.rivals.step_models import (
    Rollout,
    chained,
    perceptrons,
    train_diffusion,
    train_perceptrons,
)

MULTI_STEP = "diffusion-multi-step"
KINDS = (MULTI_STEP, "diffusion-single-step", "mlp", "ensemble")
MEMBERS = 5
#: Every model is tried at these learning rates for a share of its steps, and trained at the best.
RATES = (3e-4, 1e-3, 3e-3)
TUNING_SHARE = 0.1
#: Steps ahead whose mean error tells which rate is best.
TUNING_STEPS = 32
#: Optimiser steps by whose time a budget is reckoned.
TIMED_STEPS = 20


@dataclass(frozen=True)
class Made:
    """A trained model: its rollout, its numbers, and the seconds its training took, None where it
    was found."""

    rollout: Rollout
    parameters: int
    seconds: float | None


class Trainings:
    """Rivals of a model's dynamics, trained on its data.

    Test episodes are those that the model itself held out; tuning episodes are some of those it
    learned from, which the rivals do not.
    """

    def __init__(self, common: Common, model: Model) -> None:
        self._common, self._model = common, model
        self._own = own_training(model)

    @property
    def own_steps(self) -> int:
        """Optimiser steps of the model's own dynamics network."""
        return int(self._own["steps"]["dynamics"])

    @functools.cached_property
    def _store(self) -> EpisodeStore:
        datasets = self._model.spec.provenance["datasets"]
        return load_episodes(datasets, progress=self._common.progress)

    @functools.cached_property
    def _parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Episodes to train on, to tune on and to test on."""
        fraction, seed = self._own["validation_fraction"], self._own["seed"]
        learned, test = split_episodes(self._store, fraction, seed)
        order = np.random.default_rng([seed, 1]).permutation(learned)
        count = max(1, round(fraction * len(learned)))
        return np.sort(order[count:]), np.sort(order[:count]), test

    def _windows(self, horizon: int, part: int) -> Windows:
        return Windows(
            self._store,
            horizon=horizon,
            discount=0.99,
            termination_penalty=0.0,
            episodes=self._parts[part],
        )

    def test_windows(self, horizon: int) -> Windows:
        """Windows that neither model nor rivals learned from or were tuned on."""
        return self._windows(horizon, 2)

    def budget(self, steps: int) -> dict[str, Any]:
        """Optimiser steps of each kind: `steps`, or more where these take less processor time than
        those of the model of F steps at once."""
        seconds = {kind: self._step_seconds(kind) for kind in KINDS}
        counts = {
            kind: max(steps, round(steps * seconds[MULTI_STEP] / each))
            for kind, each in seconds.items()
        }
        return {"step_seconds": seconds, "steps": counts}

    def _step_seconds(self, kind: str) -> float:
        """Processor seconds of an optimiser step, without what a training takes besides."""
        times = []
        with tempfile.TemporaryDirectory() as folder:
            for count in (TIMED_STEPS, 3 * TIMED_STEPS):
                begin = time.process_time()
                self._train(kind, count, RATES[0], Path(folder) / str(count))
                times.append(time.process_time() - begin)
        return max((times[1] - times[0]) / (2 * TIMED_STEPS), 1e-6)

    def tuning_errors(self, kind: str, steps: int) -> dict[float, float]:
        """Mean error over `TUNING_STEPS` steps on the tuning episodes, by learning rate, after a
        share of `steps`."""
        windows, errors = self._windows(TUNING_STEPS, 1), {}
        for rate in RATES:
            rollout = self.made(kind, max(1, round(TUNING_SHARE * steps)), rate).rollout
            scale = self._model.normalizer.state.scale
            errors[rate] = float(open_loop(rollout, windows, scale, self._common.seed)[0].mean())
        return errors

    def made(self, kind: str, steps: int, rate: float) -> Made:
        """A model of `kind`, found by what it is made of or trained."""
        common = self._common
        content = {
            "model": self._model.sha256,
            "datasets": self._model.spec.provenance["datasets"],
            "steps": steps,
            "rate": rate,
            "seed": common.seed,
            **common.training,
        }
        path = named_by_content(common.out / "models", kind, content)
        begun, begin = path.exists(), time.perf_counter()
        rollout, parameters = self._train(kind, steps, rate, path)
        note = path / "seconds.json"
        if not note.exists():
            seconds = None if begun else time.perf_counter() - begin
            write_json(note, seconds)
        return Made(rollout, parameters, json.loads(note.read_text(encoding="utf-8")))

    def _train(self, kind: str, steps: int, rate: float, out: Path) -> tuple[Rollout, int]:
        common, model = self._common, self._model
        settings = {"batch_size": self._own["batch_size"], "compile": False, **common.training}
        settings |= {"learning_rate": rate, "seed": common.seed}
        if kind in ("mlp", "ensemble"):
            networks = train_perceptrons(
                self._windows(1, 0),
                model.normalizer,
                out / "perceptrons.safetensors",
                members=1 if kind == "mlp" else MEMBERS,
                parameters=stage_parameters(model, "dynamics"),
                steps=steps,
                batch_size=settings["batch_size"],
                learning_rate=rate,
                seed=common.seed,
            )
            size = sum(p.numel() for network in networks for p in network.parameters())
            return perceptrons(networks, model.normalizer), size
        horizon = model.spec.horizon if kind == MULTI_STEP else 1
        path = train_diffusion(
            self._windows(horizon, 0),
            self._windows(horizon, 1),
            model.normalizer,
            model.spec,
            out,
            steps=steps,
            progress=common.progress,
            threads=common.threads,
            **settings,
        )
        made = load_model(path)
        engine = registry.create(common.backend, made, dtype=common.dtype, **common.options())
        return chained(engine, made, seed=common.seed), stage_parameters(made, "dynamics")
