"""Episodes into a new Minari dataset, which appears under its name only when it is whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from minari import __version__ as minari_version
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_dataset import parse_dataset_id
from minari.dataset.minari_storage import MinariStorage
from minari.namespace import create_namespace, list_local_namespaces
from minari.storage.datasets_root_dir import get_dataset_path

from dmpc_fast.data.spaces import DatasetError, action_bounds, float32_space, observation_layout

#: Episodes that are held before they go to disk together.
EPISODES_PER_WRITE = 16


class DatasetWriter:
    """Writes one dataset; a context manager.

    The dataset grows in a hidden folder beside its place and moves there when the context ends
    without an error; otherwise nothing of it remains. Observations, actions and rewards are stored
    as float32.

    environment: gives the spaces and, by its id, what recovers it. metadata: further keys of the
    dataset's metadata. overwrite: whether to replace a dataset of that id. Raises FileExistsError
    for an id that is taken and `DatasetError` for one that is malformed or spaces that are not
    supported.
    """

    def __init__(
        self,
        dataset_id: str,
        environment: gymnasium.Env,
        *,
        metadata: dict[str, Any],
        data_format: str = "hdf5",
        overwrite: bool = False,
    ) -> None:
        owner = f"dataset {dataset_id!r}"
        self._namespace = _namespace(dataset_id)
        observation_layout(environment.observation_space, owner)
        action_bounds(environment.action_space, owner)
        self.dataset_id, self.path = dataset_id, get_dataset_path(dataset_id)
        if self.path.exists() and not overwrite:
            raise FileExistsError(
                f"{owner} exists already in {self.path}; choose another id, or overwrite it "
                "(--overwrite)"
            )
        self.episodes = self.steps = 0
        self._buffers: list[EpisodeBuffer] = []
        self._metadata = metadata
        self._partial = self.path.parent / f".{self.path.name}.partial-{os.getpid()}"
        self._made = _make_parents(self._partial)
        _remove_leftovers(self.path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._storage = MinariStorage.new(
                    self._partial / "data",
                    observation_space=float32_space(environment.observation_space),
                    action_space=float32_space(environment.action_space),
                    env_spec=_recoverable_spec(environment),
                    data_format=data_format,
                )
        except BaseException:
            self._discard()
            raise

    def add(
        self,
        observations: Any,
        actions: np.ndarray,
        rewards: np.ndarray,
        *,
        terminated: bool,
        seed: int | None = None,
    ) -> None:
        """One episode.

        observations: (T + 1, ...) as the space has them, stacked. actions: (T, A). rewards: (T,).
        terminated: whether it ended by termination. seed: what the environment was reset with.
        """
        steps = len(rewards)
        space = self._storage.action_space
        ends = np.zeros(steps, bool)
        ends[-1] = True
        nowhere = np.zeros(steps, bool)
        self._buffers.append(
            EpisodeBuffer(
                seed=seed,
                observations=_float32(observations),
                actions=np.asarray(actions, np.float32).reshape(steps, *(space.shape or ())),
                rewards=np.asarray(rewards, np.float32),
                terminations=ends if terminated else nowhere,
                truncations=nowhere if terminated else ends,
            )
        )
        self.episodes += 1
        self.steps += steps
        if len(self._buffers) >= EPISODES_PER_WRITE:
            self._flush()

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._commit()
        finally:
            self._discard()

    def _flush(self) -> None:
        self._storage.update_episodes(self._buffers)
        self._buffers = []

    def _commit(self) -> None:
        if not self.episodes:
            raise DatasetError(f"dataset {self.dataset_id!r} would have no episodes")
        self._flush()
        identity = {"dataset_id": self.dataset_id, "minari_version": minari_version}
        self._storage.update_metadata({**self._metadata, **identity})
        if self._namespace is not None and self._namespace not in list_local_namespaces():
            create_namespace(self._namespace)
        replaced = self._partial.with_name(f"{self._partial.name}-replaced")
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.path, replaced)
        os.rename(self._partial, self.path)
        shutil.rmtree(replaced, ignore_errors=True)

    def _discard(self) -> None:
        """Remove what is unfinished, and the empty folders that were made for it."""
        shutil.rmtree(self._partial, ignore_errors=True)
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _recoverable_spec(environment: gymnasium.Env) -> EnvSpec | None:
    """What Minari recovers the environment by; None where it is registered with a Python object."""
    if environment.spec is None:
        return None
    spec = gymnasium.spec(environment.spec.id)
    try:
        spec.to_json()
    except (TypeError, ValueError):
        return None
    return spec


def _float32(observations: Any) -> Any:
    if isinstance(observations, Mapping):
        return {key: _float32(value) for key, value in observations.items()}
    return np.asarray(observations, np.float32)


def _namespace(dataset_id: str) -> str | None:
    try:
        namespace: str | None = parse_dataset_id(dataset_id)[0]
    except (TypeError, ValueError):
        raise DatasetError(
            f"malformed dataset id {dataset_id!r}: expected (namespace/)name-vN, such as "
            "my/hopper/play-v0"
        ) from None
    return namespace


def _make_parents(folder: Path) -> list[Path]:
    """Make a folder; gives those of its parents that were not there, the innermost first."""
    missing = []
    for parent in folder.parents:
        if parent.exists():
            break
        missing.append(parent)
    folder.mkdir(parents=True)
    return missing


def _remove_leftovers(path: Path) -> None:
    """Remove what a killed process left while it wrote the same dataset."""
    for leftover in path.parent.glob(f".{path.name}.partial-*"):
        process = leftover.name.rpartition("partial-")[2].partition("-")[0]
        if process.isdigit() and not Path("/proc", process).exists():
            shutil.rmtree(leftover, ignore_errors=True)
