"""Episodes split over processes: each takes the next episode's number whenever a slot is free."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import traceback
from collections.abc import Generator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import gymnasium

from dmpc_fast.evaluation.environments import make_environment
from dmpc_fast.evaluation.policies import PlannerPolicy, PlannerSettings, PlanTimes, RandomPolicy
from dmpc_fast.evaluation.rollouts import Rollout, run_rollouts

#: Seconds that a worker has to end by itself before it is killed.
PATIENCE_S = 5.0
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class RolloutTask:
    """What every worker must know. planner None: random actions.

    slots: episodes at once in one process. keys: keys of dictionary observations, or None. seed:
    episode i's environment is reset with seed + i; also the seed of random actions.
    """

    env_id: str
    modify: tuple[str, ...]
    planner: PlannerSettings | None
    keys: tuple[str, ...] | None
    seed: int
    slots: int
    max_steps: int | None = None
    record: bool = False


def rollouts(
    task: RolloutTask, *, workers: int, limit: int | None, times: PlanTimes
) -> Generator[Rollout, None, None]:
    """Episodes 0, 1, ... as they end, in any order: `limit` of them, or until the caller stops.

    workers: processes; 1 runs in this one. times: gets what the planners' plans took. Raises
    ChildProcessError where a worker dies, naming it, and ValueError as the worker raised it.
    """
    if workers > 1:
        yield from _in_processes(task, workers, limit, times)
        return
    numbers = itertools.count() if limit is None else iter(range(limit))
    yield from _in_this_process(task, lambda: next(numbers, None), times)


def _in_this_process(
    task: RolloutTask, take: Any, times: PlanTimes
) -> Generator[Rollout, None, None]:
    with contextlib.ExitStack() as stack:
        environments = []
        for _ in range(task.slots):
            environments.append(make_environment(task.env_id, modify=task.modify))
            stack.callback(environments[-1].close)
        policy: PlannerPolicy | RandomPolicy
        if task.planner is None:
            space = environments[0].action_space
            assert isinstance(space, gymnasium.spaces.Box)
            policy = RandomPolicy(space, task.seed)
        else:
            policy = PlannerPolicy(task.planner.load(task.slots), times)
        yield from run_rollouts(
            environments,
            policy,
            take,
            seed=task.seed,
            keys=task.keys,
            max_steps=task.max_steps,
            record=task.record,
        )


@dataclass(frozen=True)
class _Worker:
    number: int
    process: BaseProcess
    pipe: Connection


def _in_processes(
    task: RolloutTask, workers: int, limit: int | None, times: PlanTimes
) -> Generator[Rollout, None, None]:
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    running: list[_Worker] = []
    try:
        for number in range(workers):
            # A pipe of its own for each: a worker killed while it writes harms no other one.
            receiver, sender = context.Pipe(duplex=False)
            arguments = (task, _threads_each(workers), counter, limit, sender)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            sender.close()
            running.append(_Worker(number, process, receiver))
        while running:
            ready = wait([worker.pipe for worker in running])
            for worker in [worker for worker in running if worker.pipe in ready]:
                kind, content = _receive(worker)
                if kind == "rollout":
                    yield content
                elif kind == "done":
                    times.extend(content)
                    running.remove(worker)
                    worker.process.join(PATIENCE_S)
                else:
                    raise _error(worker, *content)
    finally:
        _stop(running)


def _receive(worker: _Worker) -> tuple[str, Any]:
    try:
        message: tuple[str, Any] = worker.pipe.recv()
        return message
    except (EOFError, OSError):
        worker.process.join(PATIENCE_S)
        code = worker.process.exitcode
        if code is not None and code < 0:
            end = f"was killed by signal {-code} ({signal.Signals(-code).name})"
        else:
            end = f"ended with exit code {code}"
        raise ChildProcessError(
            f"worker {worker.number} (process {worker.process.pid}) {end} before its "
            "episodes were done"
        ) from None


def _error(worker: _Worker, kind: str, message: str, trace: str) -> Exception:
    where = f"worker {worker.number}"
    if kind == "ValueError":
        return ValueError(f"{where}: {message}")
    return ChildProcessError(f"{where} failed: {kind}: {message}\n{trace}")


def _stop(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join(PATIENCE_S)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.pipe.close()


def _threads_each(workers: int) -> int:
    """This process's share of threads, divided among the workers."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    own = int(given) if given.isdigit() else len(os.sched_getaffinity(0))
    return max(1, own // workers)


def _work(
    task: RolloutTask, threads: int, counter: Any, limit: int | None, pipe: Connection
) -> None:
    """Body of a worker process. The parent ends it; Ctrl-C is the parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for variable in THREAD_VARIABLES:  # read when torch is imported, which is later
        os.environ[variable] = str(threads)

    def take() -> int | None:
        with counter.get_lock():
            number = int(counter.value)
            if limit is not None and number >= limit:
                return None
            counter.value = number + 1
            return number

    times = PlanTimes()
    try:
        for rollout in _in_this_process(task, take, times):
            pipe.send(("rollout", rollout))
        pipe.send(("done", times))
    except BrokenPipeError:  # the parent is gone
        return
    except Exception as error:
        kind = "ValueError" if isinstance(error, ValueError) else type(error).__name__
        pipe.send(("error", (kind, str(error), traceback.format_exc())))
