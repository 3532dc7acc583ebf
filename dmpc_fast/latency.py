"""The one timer: how long callables take, measured in turns, every sample kept.

A shared machine drifts, so variants that are compared run in one loop, once each per round and in an
order that changes from round to round: what slows the machine slows all of them, and none always
follows the same other one. A `SpinReference` among them shows the tails that the machine itself has.

    samples = measure({"cpu": plan_cpu, "torch": plan_torch}, Budget(plans=100, seconds=60))
    samples["cpu"].summary().median_s
"""

from __future__ import annotations

import gc
import itertools
import math
import os
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

#: Rounds before the first that counts: page faults, lazy initialisation, caches, branch predictors.
WARMUP_ROUNDS = 3
#: Iterations of the spin loop that calibrate its speed, a few milliseconds.
CALIBRATION_ITERATIONS = 1 << 18
CALIBRATION_RUNS = 7


@dataclass(frozen=True)
class Budget:
    """When measuring ends: after `plans` samples of every variant, or once `seconds` have passed.

    The first round always completes. `plans` alone fixes the count. Warm-up is not charged.
    """

    plans: int = 30
    seconds: float = math.inf

    def __post_init__(self) -> None:
        if self.plans < 1:
            raise ValueError(f"plans must be 1 or more, got {self.plans}")
        if not self.seconds > 0:
            raise ValueError(f"seconds must be positive, got {self.seconds}")


@dataclass(frozen=True)
class SpinReference:
    """A pure loop of fixed work, as long as the median warm-up of the variant `like`.

    It calls nothing, allocates nothing and touches no memory, so its tail is the machine's own. The
    calling thread is tied to the processor `cpu` while it spins; None lets the system move it.
    """

    like: str
    cpu: int | None = None


@dataclass(frozen=True)
class Summary:
    """Seconds. A quantile that so few samples cannot show (one in 100, one in 1000) is None."""

    count: int
    median_s: float
    p99_s: float | None
    p999_s: float | None
    max_s: float


@dataclass(frozen=True)
class Samples:
    """nanoseconds: (n,) int64 in the order taken. warmup: those of the rounds that do not count;
    its first is the cold start."""

    nanoseconds: np.ndarray
    warmup: np.ndarray

    def summary(self) -> Summary:
        """Median, tails and maximum of the samples that count."""
        return summarize(self.nanoseconds)


def summarize(nanoseconds: np.ndarray) -> Summary:
    """Summary of durations (n,) in nanoseconds; raises ValueError where there is none."""
    values = np.sort(np.asarray(nanoseconds, np.float64)) * 1e-9
    if values.ndim != 1 or not values.size:
        raise ValueError(f"durations must be an array (n,) with n >= 1, got {values.shape}")
    return Summary(
        count=len(values),
        median_s=float(np.median(values)),
        p99_s=_tail(values, 100),
        p999_s=_tail(values, 1000),
        max_s=float(values[-1]),
    )


def _tail(ordered: np.ndarray, one_in: int) -> float | None:
    """The smallest sample that at most one in `one_in` exceed."""
    if len(ordered) < one_in:
        return None
    return float(ordered[len(ordered) - 1 - len(ordered) // one_in])


def measure(
    variants: Mapping[str, Callable[[], object] | SpinReference],
    budget: Budget,
    *,
    warmup: int = WARMUP_ROUNDS,
    seed: int = 0,
    clock: Callable[[], int] | None = None,
    settle_s: float = 0.0,
    turn: int = 1,
) -> dict[str, Samples]:
    """Time the variants in turns; samples by name.

    Args:
        variants: callables without arguments; their results are dropped. A `SpinReference` is made
            into a loop after the warm-up.
        budget: when to end. warmup: rounds before, 1 or more. seed: of the order within rounds.
        clock: nanoseconds, wall time unless given; `time.process_time_ns` leaves out the time that
            other processes took.
        settle_s: seconds for which a variant runs untimed when its turn comes: threads that the one
            before has left spinning would take a core from it. A sleep in their place would let the
            processor itself go to sleep.
        turn: samples of a variant in a row, 1 or more.

    Garbage collection is off meanwhile: it would charge one variant for what others left behind.
    """
    if not variants:
        raise ValueError("variants must hold at least one callable, got none")
    if warmup < 1:
        raise ValueError(f"warmup must be 1 or more, got {warmup}")
    if not 0 <= settle_s < math.inf:
        raise ValueError(f"settle_s must be a number of seconds from 0 on, got {settle_s}")
    if turn < 1:
        raise ValueError(f"turn must be 1 or more, got {turn}")
    timed: dict[str, Callable[[], int]] = {
        name: _timed(variant, clock)
        for name, variant in variants.items()
        if not isinstance(variant, SpinReference)
    }
    for name, variant in variants.items():
        if isinstance(variant, SpinReference) and variant.like not in timed:
            raise ValueError(f"{name!r} must spin like one of {list(timed)}, got {variant.like!r}")
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        warm = {name: [run() for _ in range(warmup)] for name, run in timed.items()}
        for name, variant in variants.items():
            if isinstance(variant, SpinReference):
                length = float(np.median(warm[variant.like]))
                timed[name] = _spin(length, variant.cpu)
                warm[name] = [timed[name]() for _ in range(warmup)]
        taken = _rounds(timed, budget, random.Random(seed), settle_s, turn)
    finally:
        if was_enabled:
            gc.enable()
    return {
        name: Samples(np.array(taken[name], np.int64), np.array(warm[name], np.int64))
        for name in variants
    }


def _rounds(
    timed: dict[str, Callable[[], int]],
    budget: Budget,
    order: random.Random,
    settle_s: float,
    turn: int,
) -> dict[str, list[int]]:
    taken: dict[str, list[int]] = {name: [] for name in timed}
    names = list(timed)
    end = time.monotonic() + budget.seconds
    for first in range(0, budget.plans, turn):
        order.shuffle(names)
        for name in names:
            settled = time.monotonic() + settle_s
            while time.monotonic() < settled:
                timed[name]()
            for _ in range(min(turn, budget.plans - first)):
                taken[name].append(timed[name]())
        if time.monotonic() >= end:
            break
    return taken


def _timed(run: Callable[[], object], clock: Callable[[], int] | None = None) -> Callable[[], int]:
    clock = clock or time.perf_counter_ns

    def timed() -> int:
        start = clock()
        run()
        return clock() - start

    return timed


def spin(iterations: int) -> None:
    """Run an empty native loop `iterations` times: no bytecode, no allocation, constant memory."""
    deque(itertools.repeat(None, iterations), maxlen=0)


def _spin(nanoseconds: float, cpu: int | None) -> Callable[[], int]:
    """A timed spin of this length, tied to `cpu` outside the time that counts."""
    calibrate = _timed(lambda: spin(CALIBRATION_ITERATIONS))
    per_iteration = min(calibrate() for _ in range(CALIBRATION_RUNS)) / CALIBRATION_ITERATIONS
    iterations = max(1, round(nanoseconds / per_iteration))
    run = _timed(lambda: spin(iterations))
    if cpu is None:
        return run
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError("this system cannot tie a thread to a processor: cpu must be None")
    allowed = os.sched_getaffinity(0)
    if cpu not in allowed:
        raise ValueError(f"cpu must be one of {sorted(allowed)}, got {cpu}")

    def pinned() -> int:
        os.sched_setaffinity(0, {cpu})
        try:
            return run()
        finally:
            os.sched_setaffinity(0, allowed)

    return pinned
