"""The process that measures one variant: python -m benchmarks.gpu.worker KIND VARIANT.

It answers every line of JSON on standard input with one on standard output:
{"prepare": {...}} with facts of what was prepared, {"turn": seconds} with {"nanoseconds": [...]} of
the runs that fitted, one at least, and any failure with {"error": "..."}. KIND is a module of this
package with a function `prepare(variant, question)`.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

KINDS = ("plans", "training_steps", "peaks")


class Prepared(NamedTuple):
    """run: what is timed; it returns when its results are there. facts: for the variant's row."""

    run: Callable[[], object]
    facts: dict[str, Any]


class Prepare(Protocol):
    """What a kind of worker offers."""

    def __call__(self, variant: str, question: Mapping[str, Any]) -> Prepared: ...


class Server:
    """Answers questions with what `prepare` makes of them."""

    def __init__(self, variant: str, prepare: Prepare) -> None:
        self._variant, self._prepare = variant, prepare
        self._run: Callable[[], object] | None = None

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Never raises: what a library raises, of whatever kind, is the answer."""
        try:
            if "prepare" in question:
                # What was prepared before makes room first.
                self._run = None
                begin = time.monotonic()
                self._run, facts = self._prepare(self._variant, question["prepare"])
                return {**facts, "preparation_s": round(time.monotonic() - begin, 1)}
            return {"nanoseconds": self._turn(question["turn"])}
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}

    def _turn(self, seconds: float) -> list[int]:
        if self._run is None:
            raise RuntimeError("nothing is prepared")
        taken: list[int] = []
        begin = time.perf_counter_ns()
        while True:
            start = time.perf_counter_ns()
            self._run()
            end = time.perf_counter_ns()
            taken.append(end - start)
            if end - begin >= seconds * 1e9:
                # The first run finds caches that others have filled; of a single one nothing else is
                # known.
                return taken[1:] or taken


def main() -> None:
    kind, variant = sys.argv[1:]
    if kind not in KINDS:
        raise SystemExit(f"KIND must be one of {KINDS}, got {kind!r}")
    # Libraries print to standard output, which is for answers alone.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    server = Server(variant, importlib.import_module(f"benchmarks.gpu.{kind}").prepare)
    for line in sys.stdin:
        answers.write(json.dumps(server.answer(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
