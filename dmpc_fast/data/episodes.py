"""Episodes as flat arrays, in memory or in memory maps on disk, filled by one code path."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dmpc_fast.spec import EnvironmentSpec

#: Part of the name of a cached copy: raise it when the layout of the arrays changes.
CACHE_VERSION = 1


class Sizes(NamedTuple):
    """What a store must hold: E episodes with T actions in all, of S- and A-vectors."""

    episodes: int
    steps: int
    state_size: int
    action_size: int

    def arrays(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Shape and type of each array of a store."""
        return {
            "observations": ((self.steps + self.episodes, self.state_size), np.float32),
            "actions": ((self.steps, self.action_size), np.float32),
            "rewards": ((self.steps,), np.float32),
            "terminations": ((self.episodes,), np.bool_),
            "offsets": ((self.episodes + 1,), np.int64),
        }

    @property
    def bytes(self) -> int:
        return sum(int(np.prod(s)) * np.dtype(t).itemsize for s, t in self.arrays().values())


class Episode(NamedTuple):
    """observations (T + 1, S), actions (T, A), rewards (T,), all float32; terminated or not."""

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool


@dataclass(frozen=True)
class EpisodeStore:
    """E episodes with T actions in all, laid end to end; arrays may be read-only memory maps.

    observations: (T + E, S) float32: episode e's rows start at offsets[e] + e and include the state
    after its last action. actions: (T, A) float32. rewards: (T,) float32. terminations: (E,) bool,
    whether the episode ended by termination rather than truncation or the end of the data.
    offsets: (E + 1,) int64 into actions. score_range: returns that count as 0 and 100, where known.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminations: np.ndarray
    offsets: np.ndarray
    environment: EnvironmentSpec
    dataset_ids: tuple[str, ...]
    score_range: tuple[float, float] | None

    @property
    def num_episodes(self) -> int:
        return len(self.terminations)

    @property
    def num_steps(self) -> int:
        return len(self.actions)

    @property
    def state_size(self) -> int:
        return int(self.observations.shape[1])

    @property
    def action_size(self) -> int:
        return int(self.actions.shape[1])

    def episode(self, index: int) -> Episode:
        """Episode `index`, as views of the arrays."""
        if not 0 <= index < self.num_episodes:
            raise IndexError(f"episode must be from 0 to {self.num_episodes - 1}, got {index}")
        start, end = int(self.offsets[index]), int(self.offsets[index + 1])
        return Episode(
            self.observations[start + index : end + index + 1],
            self.actions[start:end],
            self.rewards[start:end],
            bool(self.terminations[index]),
        )

    def episode_returns(self) -> np.ndarray:
        """Undiscounted return of each episode, (E,) float64."""
        pairs = zip(self.offsets[:-1], self.offsets[1:], strict=True)
        return np.array([self.rewards[a:b].sum(dtype=np.float64) for a, b in pairs])


def read_into_memory(sizes: Sizes, episodes: Iterator[Episode]) -> dict[str, np.ndarray]:
    """The arrays of a store, filled from `episodes`; raises ValueError unless `sizes` is met."""
    arrays = {name: np.empty(shape, dtype) for name, (shape, dtype) in sizes.arrays().items()}
    filled = dict.fromkeys(arrays, 0)

    def write(name: str, rows: np.ndarray) -> None:
        start = filled[name]
        arrays[name][start : start + len(rows)] = rows
        filled[name] = start + len(rows)

    _fill(sizes, episodes, write)
    return arrays


def read_through_cache(
    sizes: Sizes, episodes: Callable[[], Iterator[Episode]], folder: Path, key: str
) -> dict[str, np.ndarray]:
    """The arrays of a store as read-only memory maps of `folder`/`key`, written if not there yet.

    The copy appears under its name only when whole. Processes that want the same one wait for the
    first of them; what a killed one left is overwritten. A full disk raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"{key}-{CACHE_VERSION}"
    with _locked(final.with_suffix(".lock")):
        if not final.is_dir():
            _write_cache(sizes, episodes(), final)
    names = sizes.arrays()
    return {name: np.load(final / f"{name}.npy", mmap_mode="r") for name in names}


def _write_cache(sizes: Sizes, episodes: Iterator[Episode], final: Path) -> None:
    partial = final.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        # Plain writes rather than a writable memory map: on a full disk they raise, the map kills.
        with contextlib.ExitStack() as stack:
            files = {}
            for name, (shape, dtype) in sizes.arrays().items():
                files[name] = stack.enter_context(open(partial / f"{name}.npy", "wb"))
                descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
                header = {"descr": descr, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(files[name], header)
            _fill(sizes, episodes, lambda name, rows: files[name].write(rows.tobytes()))
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
        os.rename(partial, final)
    except OSError as error:
        raise OSError(f"cannot write the cached dataset {partial}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fill(
    sizes: Sizes, episodes: Iterator[Episode], write: Callable[[str, np.ndarray], Any]
) -> None:
    """Hand every episode's rows to `write`, then the arrays that have an entry per episode."""
    ends, terminations, steps = [0], [], 0
    for episode in episodes:
        steps += len(episode.actions)
        if steps > sizes.steps or len(ends) > sizes.episodes:
            break
        write("observations", np.ascontiguousarray(episode.observations, np.float32))
        write("actions", np.ascontiguousarray(episode.actions, np.float32))
        write("rewards", np.ascontiguousarray(episode.rewards, np.float32))
        ends.append(steps)
        terminations.append(episode.terminated)
    if steps != sizes.steps or len(terminations) != sizes.episodes:
        raise ValueError(
            f"expected {sizes.episodes} episodes with {sizes.steps} steps, as the metadata says, "
            f"but read {len(terminations)} episodes with {steps} steps"
        )
    write("offsets", np.asarray(ends, np.int64))
    write("terminations", np.asarray(terminations, np.bool_))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
