"""`distill_policy`: from a planner to a policy that answers in microseconds."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from dmpc_fast.evaluation.environments import check_environment, make_environment
from dmpc_fast.evaluation.rollouts import run_rollouts
from dmpc_fast.imitation.decisions import Decisions, Progress, load_progress, save_progress
from dmpc_fast.imitation.driving import Act, LabelledDriving
from dmpc_fast.imitation.fitting import fit, new_network, weights_of
from dmpc_fast.imitation.settings import EPISODES, FIRST_SEED, ImitationSettings
from dmpc_fast.model_file import Model, load_model, save_model, write_atomically
from dmpc_fast.models.policy import PolicyNetwork
from dmpc_fast.planning.planner import Planner
from dmpc_fast.spec import ModelSpec, PolicySpec

CHECKPOINT, SETTINGS, MODEL = "policy.safetensors", "policy.json", "model.safetensors"
#: Of the last fit's steps, those of the fits before it.
EARLY_SHARE = 1 / 3


def distill_policy(
    model: str | Path,
    env_id: str,
    *,
    out: str | Path,
    resume: bool = False,
    progress: bool = True,
    threads: int | None = None,
    max_steps: int | None = None,
    **settings: Any,
) -> Path:
    """Teach a policy to do what the model's planner does (D-MPC section 4.5), by DAgger.

    Round after round episodes are driven by the planner or by the policy so far; in every state the
    planner is asked for its action, planning anew, and the policy is fitted to all answers.

    Args:
        model: model file or run's folder; a policy that it has is replaced.
        env_id: Gymnasium environment to drive in. max_steps: end its episodes early.
        out: folder of the run. resume: go on after its last whole round.
        threads: torch's, and the engine's.
        settings: fields of `ImitationSettings`.

    Returns:
        Path of the model file, ``out/model.safetensors``: the model's own tensors and the policy's.

    Raises:
        FileExistsError: `out` already holds a run and `resume` is false. FileNotFoundError: there
            is none to resume.
        ValueError: an option is out of range, the environment does not fit, the model takes a
            context, or the run in `out` had other settings.
    """
    out = Path(out)
    made = ImitationSettings(**settings)
    path = Path(model)
    teacher = load_model(path / MODEL if path.is_dir() else path)
    _check(teacher, env_id)
    _open_run(out, teacher, env_id, made, resume)
    if threads is not None:
        torch.set_num_threads(threads)
    spec = dataclasses.replace(teacher.spec, policy=PolicySpec(made.layers, made.width))
    network = new_network(spec, made.seed)
    state = Progress(0, 0, Decisions.none(spec.condition_size, spec.action_size), {})
    if resume and (out / CHECKPOINT).exists():
        state = load_progress(out / CHECKPOINT)
        weights = {name: torch.from_numpy(array) for name, array in state.weights.items()}
        network.load_state_dict(weights)
    for round_ in range(state.rounds, made.rounds):
        drive = _Round(teacher, env_id, made, round_, threads, max_steps, progress)
        decisions, episodes = drive.run(network if round_ else None, state.episodes)
        decisions = state.decisions.joined(decisions)
        last = round_ + 1 == made.rounds
        steps = made.steps if last else max(1, round(EARLY_SHARE * made.steps))
        with tqdm(total=steps, desc=f"round {round_ + 1}: fit", disable=not progress) as bar:

            def heard(loss: float, bar: Any = bar) -> None:
                bar.update()
                if bar.n % 100 == 0:
                    bar.set_postfix_str(f"loss {loss:.4f}")

            network = fit(
                network, decisions, teacher.normalizer, made,
                steps=steps, round_=round_, heard=heard,
            )  # fmt: skip
        state = Progress(round_ + 1, episodes, decisions, weights_of(network))
        save_progress(out / CHECKPOINT, state)
    return _save(out, teacher, spec, env_id, made, state)


class _Round:
    """One round of driving."""

    def __init__(
        self,
        teacher: Model,
        env_id: str,
        settings: ImitationSettings,
        round_: int,
        threads: int | None,
        max_steps: int | None,
        progress: bool,
    ) -> None:
        self._teacher, self._env_id, self._settings = teacher, env_id, settings
        self._round, self._threads = round_, threads
        self._max_steps, self._progress = max_steps, progress

    def run(self, network: PolicyNetwork | None, first: int) -> tuple[Decisions, int]:
        """What was decided, and the number of the next episode; `first`: that of the first one."""
        made = self._settings
        options: dict[str, Any] = {} if self._threads is None else {"threads": self._threads}
        planner = Planner.load(
            self._teacher, backend=made.backend, dtype=made.dtype, num_samples=made.num_samples,
            num_elites=made.num_elites, action_chunk=1, num_robots=made.robots, seed=made.seed,
            mode="plan", **options,
        )  # fmt: skip
        numbers = itertools.count(first)
        environments = [make_environment(self._env_id) for _ in range(made.robots)]
        title = f"round {self._round + 1}: drive"
        try:
            with tqdm(
                total=made.round_states, desc=title, unit="state", disable=not self._progress
            ) as bar:
                driving = LabelledDriving(
                    planner,
                    self._teacher.normalizer,
                    None if network is None else acting(network, self._teacher),
                    expert_share=made.expert_share**self._round,
                    seed=made.seed,
                    heard=bar.update,
                )
                returns = []
                for rollout in run_rollouts(
                    environments,
                    driving,
                    lambda: (
                        None if driving.count >= made.round_states else next(numbers) % EPISODES
                    ),
                    seed=FIRST_SEED,
                    keys=self._teacher.spec.environment.observation_keys,
                    max_steps=self._max_steps,
                ):
                    returns.append(rollout.episode_return)
                    bar.set_postfix_str(f"mean return {np.mean(returns):.0f}")
        finally:
            for environment in environments:
                environment.close()
        return driving.decisions(), next(numbers)


def acting(network: PolicyNetwork, model: Model) -> Act:
    """The policy as a function of conditions, in environment units and within the bounds."""
    environment = model.spec.environment
    low = np.array([-np.inf if x is None else x for x in environment.action_low], np.float32)
    high = np.array([np.inf if x is None else x for x in environment.action_high], np.float32)

    @torch.inference_mode()
    def act(conditions: np.ndarray) -> np.ndarray:
        normalised = network(torch.from_numpy(conditions)).numpy()
        actions: np.ndarray = model.normalizer.action.denormalize(normalised)
        return actions.clip(low, high)

    return act


def _check(teacher: Model, env_id: str) -> None:
    if teacher.spec.context:
        raise ValueError(
            f"the model takes a context of size {teacher.spec.context}, which no environment gives"
        )
    environment = make_environment(env_id)
    try:
        check_environment(environment, teacher.spec, allow_period_mismatch=False)
    finally:
        environment.close()


def _open_run(
    out: Path, teacher: Model, env_id: str, settings: ImitationSettings, resume: bool
) -> None:
    """A new folder, or one whose run had the same settings, teacher and environment."""
    text = "\n".join([settings.to_json(), teacher.sha256, env_id]) + "\n"
    stored = out / SETTINGS
    if not resume:
        if stored.exists() or (out / MODEL).exists():
            raise FileExistsError(f"{out} already holds a run: resume it, or choose another folder")
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(stored, text.encode())
        return
    if not stored.exists():
        raise FileNotFoundError(f"{out} holds no run to resume: {SETTINGS} is missing")
    if (before := stored.read_text(encoding="utf-8")) != text:
        raise ValueError(
            f"the run in {out} has other settings, teacher or environment: {before!r}, not {text!r}"
        )


def _save(
    out: Path,
    teacher: Model,
    spec: ModelSpec,
    env_id: str,
    settings: ImitationSettings,
    state: Progress,
) -> Path:
    made = {
        **dataclasses.asdict(settings),
        "environment": env_id,
        "planner": teacher.sha256,
        "states": len(state.decisions.actions),
        "episodes": state.episodes,
    }
    spec = dataclasses.replace(spec, provenance={**teacher.spec.provenance, "policy": made})
    tensors = {
        name: array for name, array in teacher.tensors.items() if not name.startswith("policy.")
    }
    tensors |= {f"policy.{name}": array for name, array in state.weights.items()}
    save_model(out / MODEL, spec, tensors)
    return out / MODEL
