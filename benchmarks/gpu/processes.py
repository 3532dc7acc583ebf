"""Processes that may hang, crash or take others' time: each is started alone and ends at a deadline.

A `Worker` answers every line of JSON that it is sent with one of its own. What measures lives in such
processes, one for each variant, so that one that fails takes nothing with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from benchmarks.gpu.deadline import Deadline

ROOT = Path(__file__).resolve().parents[2]
#: Where compilers keep what they made: a second run of the command finds it again.
CACHE = ROOT / "build" / "gpu"


class WorkerError(RuntimeError):
    """A worker said that it failed, ended, or did not answer in time."""


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Of every process: imports come from this checkout, caches lie in its build folder."""
    caches = {
        "TRITON_CACHE_DIR": str(CACHE / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(CACHE / "inductor"),
    }
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    kept = {name: value for name, value in os.environ.items() if name not in caches}
    return {**kept, **caches, "PYTHONPATH": os.pathsep.join(paths), **(changes or {})}


def stop(process: subprocess.Popen[Any]) -> None:
    """End a process that was started in a session of its own, and all that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Worker:
    """A process that answers lines of JSON.

    command: to start it. log: where its standard error goes.
    """

    def __init__(self, command: Sequence[str], log: IO[Any]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            cwd=ROOT, env=environment(), start_new_session=True,
        )  # fmt: skip
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._ended: str | None = None
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def send(self, message: Mapping[str, Any]) -> None:
        """Ask for something; what goes wrong shows where the answer is awaited."""
        if self._ended is not None:
            return
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def receive(self, deadline: Deadline) -> dict[str, Any]:
        """The answer to the oldest question that has none. Raises WorkerError; a worker that did not
        answer in time or with JSON is ended."""
        if self._ended is not None:
            raise WorkerError(self._ended)
        waited = deadline.remaining()
        try:
            line = self._lines.get(timeout=waited)
        except queue.Empty:
            self.close(f"gave no answer within {waited:.0f} s")
            raise WorkerError(str(self._ended)) from None
        if line is None:
            self.close(f"ended with status {self._process.wait()}")
            raise WorkerError(str(self._ended))
        try:
            answer = dict(json.loads(line))
        except (ValueError, TypeError):
            self.close(f"answered {line[:80]!r}, which is no JSON object")
            raise WorkerError(str(self._ended)) from None
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    @property
    def alive(self) -> bool:
        return self._ended is None

    def close(self, reason: str = "was closed") -> None:
        """End it, whatever it does; may be called again."""
        if self._ended is None:
            self._ended = reason
            stop(self._process)
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                with contextlib.suppress(OSError):
                    pipe.close()
