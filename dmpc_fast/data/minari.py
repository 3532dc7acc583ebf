"""Minari datasets as episodes; `dmpc_fast.data.minari_writer` is the other direction."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import minari
import numpy as np
from minari.storage.datasets_root_dir import get_dataset_path
from tqdm import tqdm

from dmpc_fast.data.episodes import (
    Episode,
    EpisodeStore,
    Sizes,
    read_into_memory,
    read_through_cache,
)
from dmpc_fast.data.spaces import (
    DatasetError,
    action_bounds,
    flatten_observations,
    observation_layout,
)
from dmpc_fast.spec import EnvironmentSpec

#: Episodes asked of Minari at once: it opens a file per call, and Arrow keeps a call's in memory.
EPISODES_PER_READ = 32
#: Our own keys in a dataset's metadata: seconds between actions, and the environment's id.
CONTROL_PERIOD_KEY = "control_period_s"
ENVIRONMENT_KEY = "environment_id"


@dataclass(frozen=True)
class _Source:
    """One dataset of a mixture and how its episodes become vectors."""

    dataset: minari.MinariDataset
    environment: EnvironmentSpec
    state_size: int

    @property
    def id(self) -> str:
        return str(self.dataset.id)


def load_episodes(
    dataset_ids: str | Sequence[str],
    *,
    memory_limit_bytes: int = 2 << 30,
    cache_dir: Path | None = None,
    control_period_s: float | None = None,
    progress: bool = True,
) -> EpisodeStore:
    """Read one Minari dataset, or a mixture of several with the same spaces, into a store.

    A dataset that is not local is downloaded. One that takes more than `memory_limit_bytes` is
    streamed, episode by episode, into memory maps in `cache_dir` (by default dmpc-fast in the
    user's cache folder), which later calls reuse. control_period_s: seconds between actions, needed
    only where the dataset's environment cannot be recovered or does not say.

    Raises `DatasetError` for an unknown dataset, spaces that are not supported or differ, and data
    that are not finite or not consistent; the message names dataset, episode, step and field.
    """
    names = (dataset_ids,) if isinstance(dataset_ids, str) else tuple(dataset_ids)
    if not names:
        raise DatasetError("no dataset id was given")
    sources = [_open(name, control_period_s) for name in names]
    for other in sources[1:]:
        _check_same(sources[0], other)
    first = sources[0]
    sizes = Sizes(
        sum(source.dataset.total_episodes for source in sources),
        sum(source.dataset.total_steps for source in sources),
        first.state_size,
        len(first.environment.action_low),
    )
    if sizes.steps < 1:
        raise DatasetError(f"dataset {', '.join(names)} holds no steps")

    def episodes() -> Iterator[Episode]:
        bar = tqdm(
            itertools.chain.from_iterable(_episodes(source) for source in sources),
            total=sizes.episodes,
            desc="reading episodes",
            unit="ep",
            disable=None if progress else True,
        )
        return iter(bar)

    try:
        if sizes.bytes <= memory_limit_bytes:
            arrays = read_into_memory(sizes, episodes())
        else:
            folder = _default_cache() if cache_dir is None else Path(cache_dir)
            arrays = read_through_cache(sizes, episodes, folder, _fingerprint(sources))
    except DatasetError:
        raise
    except ValueError as error:
        raise DatasetError(f"dataset {', '.join(names)}: {error}") from error
    return EpisodeStore(
        **arrays,
        environment=first.environment,
        dataset_ids=names,
        score_range=_common_score_range(sources),
    )


def _open(dataset_id: str, control_period_s: float | None) -> _Source:
    dataset = _load(dataset_id)
    owner = f"dataset {dataset_id!r}"
    keys, state_size = observation_layout(dataset.observation_space, owner)
    low, high = action_bounds(dataset.action_space, owner)
    if control_period_s is None:
        control_period_s = _control_period(dataset)
    noted = dataset.storage.metadata.get(ENVIRONMENT_KEY)
    environment = EnvironmentSpec(
        id=noted if dataset.env_spec is None else dataset.env_spec.id,
        observation_keys=keys,
        action_low=low,
        action_high=high,
        control_period_s=control_period_s,
    )
    return _Source(dataset, environment, state_size)


def _load(dataset_id: str) -> minari.MinariDataset:
    """A local dataset, or a remote one after downloading it."""
    try:
        local = (get_dataset_path(dataset_id) / "data").is_dir()
        return minari.load_dataset(dataset_id, download=not local)
    except Exception as error:  # Minari and the hubs' clients raise whatever they like
        root = get_dataset_path()
        if (root / dataset_id / "data").is_dir():
            raise DatasetError(
                f"dataset {dataset_id!r} in {root} is unreadable: {error}"
            ) from error
        nearest = difflib.get_close_matches(dataset_id, _local_ids(), n=5, cutoff=0.3)
        setting = os.environ.get("MINARI_DATASETS_PATH")
        raise DatasetError(
            f"unknown dataset {dataset_id!r}: it is not in {root} (MINARI_DATASETS_PATH is "
            f"{'not set' if setting is None else setting!r}), whose nearest ids are "
            f"{nearest or 'none'}, and it could not be downloaded: {type(error).__name__}: {error}"
        ) from error


def _local_ids() -> list[str]:
    root = get_dataset_path()
    found = root.glob("**/data/metadata.json")
    names = (path.parent.parent.relative_to(root).as_posix() for path in found)
    return sorted(name for name in names if not any(part[0] == "." for part in name.split("/")))


def _control_period(dataset: minari.MinariDataset) -> float:
    """Seconds between actions: as `minari_writer` noted them, or as the environment says."""
    noted = dataset.storage.metadata.get(CONTROL_PERIOD_KEY)
    if isinstance(noted, (int, float)) and 0 < noted < math.inf:
        return float(noted)
    remedy = "give control_period_s (--control-period on the command line)"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            environment = dataset.recover_environment()
    except Exception as error:
        raise DatasetError(
            f"dataset {dataset.id!r}: its control period is unknown, because its environment "
            f"cannot be recovered ({type(error).__name__}: {error}); {remedy}"
        ) from error
    try:
        period = getattr(environment.unwrapped, "dt", None)
    finally:
        environment.close()
    if not isinstance(period, (int, float, np.floating)) or not 0 < period < math.inf:
        name = dataset.env_spec.id if dataset.env_spec else "its environment"
        raise DatasetError(
            f"dataset {dataset.id!r}: its control period is unknown, because {name} has no "
            f"positive `dt` (got {period!r}); {remedy}"
        )
    return float(period)


def _check_same(first: _Source, other: _Source) -> None:
    """Datasets of a mixture must be of one robot."""
    if other.state_size != first.state_size:
        raise DatasetError(
            f"datasets of a mixture must have the same spaces: {first.id!r} has observations of "
            f"size {first.state_size}, {other.id!r} of {other.state_size}"
        )
    for name in ("id", "observation_keys", "action_low", "action_high", "control_period_s"):
        mine, theirs = getattr(first.environment, name), getattr(other.environment, name)
        if mine != theirs:
            raise DatasetError(
                f"datasets of a mixture must have one environment: {name} is {mine} in "
                f"{first.id!r} and {theirs} in {other.id!r}"
            )


def _episodes(source: _Source) -> Iterator[Episode]:
    storage = source.dataset.storage
    indices = [int(index) for index in source.dataset.episode_indices]
    for start in range(0, len(indices), EPISODES_PER_READ):
        block = indices[start : start + EPISODES_PER_READ]
        for index, data in zip(block, storage.get_episodes(block), strict=True):
            yield _convert(source, index, data)


def _convert(source: _Source, index: int, data: dict[str, Any]) -> Episode:
    """One of Minari's episodes as checked float32 vectors."""
    where = f"dataset {source.id!r}, episode {index}"
    steps = len(data["rewards"])
    if steps == 0:
        raise DatasetError(f"{where} has no steps")
    keys = source.environment.observation_keys
    try:
        observations = flatten_observations(data["observations"], keys, rows=steps + 1)
        actions = flatten_observations(data["actions"], None, rows=steps)
        rewards = flatten_observations(data["rewards"], None).reshape(steps)
    except ValueError as error:
        raise DatasetError(
            f"{where}: expected {steps + 1} observations and {steps} actions, one more and as many "
            f"as rewards: {error}"
        ) from error
    action_size = len(source.environment.action_low)
    for name, array, size in (
        ("observations", observations, source.state_size),
        ("actions", actions, action_size),
    ):
        if array.shape[1] != size:
            raise DatasetError(f"{where}: {name} have size {array.shape[1]}, expected {size}")
    for name, array in (("observations", observations), ("actions", actions), ("rewards", rewards)):
        _check_finite(where, name, array)
    return Episode(observations, actions, rewards, _terminated(where, data))


def _check_finite(where: str, name: str, array: np.ndarray) -> None:
    finite = np.isfinite(array.reshape(len(array), -1))
    if not finite.all():
        step, element = np.argwhere(~finite)[0]
        value = array.reshape(len(array), -1)[step, element]
        raise DatasetError(
            f"{where}, step {step}: {name}[{element}] is {value}, expected a finite float32 number"
        )


def _terminated(where: str, data: dict[str, Any]) -> bool:
    """Whether the episode ends by termination; no flag at all is the end of the data."""
    terminations = np.asarray(data["terminations"]).reshape(-1).astype(bool)
    truncations = np.asarray(data["truncations"]).reshape(-1).astype(bool)
    early = np.flatnonzero(terminations[:-1] | truncations[:-1])
    if len(early):
        raise DatasetError(
            f"{where}, step {early[0]}: flagged as the episode's end, but {len(terminations)} "
            "steps are stored; only the last step may be flagged"
        )
    return bool(terminations[-1])


def _common_score_range(sources: Iterable[_Source]) -> tuple[float, float] | None:
    """Minari's reference scores where all datasets have the same ones."""
    found = set()
    for source in sources:
        metadata = source.dataset.storage.metadata
        low, high = metadata.get("ref_min_score"), metadata.get("ref_max_score")
        found.add(None if low is None or high is None else (float(low), float(high)))
    return found.pop() if len(found) == 1 else None


def _default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "dmpc-fast" / "datasets"


def _fingerprint(sources: Sequence[_Source]) -> str:
    """A name for the arrays of a mixture: changes when any file of its datasets does."""
    digest = hashlib.sha256()
    for source in sources:
        root = Path(source.dataset.storage.data_path)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        entries = [
            [path.relative_to(root).as_posix(), path.stat().st_size, path.stat().st_mtime_ns]
            for path in files
        ]
        digest.update(json.dumps([source.id, str(root.resolve()), entries]).encode())
    return digest.hexdigest()[:32]


__all__ = ["DatasetError", "EpisodeStore", "load_episodes"]
