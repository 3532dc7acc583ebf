"""Variants measured in turns: each in a process of its own, a few runs at a time, by rounds.

What slows the machine slows all of them. A variant that fails, hangs or crashes has a row that says so,
and the others go on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.gpu.deadline import Deadline
from benchmarks.gpu.processes import Worker, WorkerError
from dmpc_fast.latency import summarize

#: Seconds of a turn, and how much longer than that it may take before it counts as hanging: one run of
#: the largest cells in the slowest precision takes a few.
TURN_S, TURN_LIMIT_S = 0.025, 30.0

Start = Callable[[str], Worker]


class Team:
    """A worker for each variant.

    variants: their names. start: starts the worker of one.
    """

    def __init__(self, variants: tuple[str, ...], start: Start) -> None:
        self._workers = {name: start(name) for name in variants}

    def measure(
        self, question: Mapping[str, Any], *, prepare: Deadline, seconds: float, end: Deadline
    ) -> dict[str, dict[str, Any]]:
        """A row for each variant: what its preparation told, and a summary of its times or `error`.

        question: what all prepare, at the same time, until the deadline `prepare`. seconds: of
        measuring each variant; the first round always completes, unless `end` comes before.
        """
        for worker in self._workers.values():
            worker.send({"prepare": dict(question)})
        rows = {name: _answer(worker, prepare) for name, worker in self._workers.items()}
        ready = [name for name, row in rows.items() if "error" not in row]
        taken: dict[str, list[int]] = {name: [] for name in ready}
        order, enough = random.Random(0), end.within(seconds * len(ready))
        while ready:
            order.shuffle(ready)
            for name in list(ready):
                self._workers[name].send({"turn": TURN_S})
                answer = _answer(self._workers[name], end.within(TURN_LIMIT_S))
                if "error" in answer:
                    rows[name]["error"] = answer["error"]
                    ready.remove(name)
                else:
                    taken[name] += answer["nanoseconds"]
            if enough.passed:
                break
        for name, nanoseconds in taken.items():
            if nanoseconds:
                rows[name] |= _summary(nanoseconds)
        return rows

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()


def _answer(worker: Worker, deadline: Deadline) -> dict[str, Any]:
    try:
        return worker.receive(deadline)
    except WorkerError as error:
        return {"error": str(error)}


def _summary(nanoseconds: list[int]) -> dict[str, Any]:
    summary = summarize(np.array(nanoseconds))
    times = {
        "median_ms": summary.median_s,
        "p99_ms": summary.p99_s,
        "p999_ms": summary.p999_s,
        "max_ms": summary.max_s,
    }
    scaled = {name: None if value is None else 1e3 * value for name, value in times.items()}
    return {"count": summary.count, **scaled}
