"""Workers that hang, crash or talk nonsense, and measuring in turns beside them."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu.deadline import Deadline
from benchmarks.gpu.processes import Worker, WorkerError
from benchmarks.gpu.turns import Team
from benchmarks.gpu.worker import Prepared, Server

STUB = str(Path(__file__).with_name("gpu_stub.py"))


def stub(variant: str, log: Path, *behaviours: str) -> Worker:
    with log.open("a", encoding="utf-8") as stream:
        return Worker([sys.executable, "-S", STUB, "plans", variant, *behaviours], stream)


def test_a_deadline_is_never_later_than_the_one_it_is_within() -> None:
    now = [100.0]
    end = Deadline(10, clock=lambda: now[0])
    phase = end.within(30, reserve=2)
    now[0] += 5
    assert (end.remaining(), phase.remaining()) == (5, 3)
    assert end.within(1).remaining() == 1
    now[0] += 4
    assert phase.passed and not end.passed
    assert phase.within(5).remaining() == 0


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [("crash", "status 3"), ("noise", "no JSON"), ("refuse", "80 GiB"), ("hang", "no answer")],
)
def test_a_worker_that_fails_says_how(tmp_path: Path, behaviour: str, reason: str) -> None:
    worker = stub("a", tmp_path / "log", f"a={behaviour}")
    try:
        worker.send({"prepare": {}})
        with pytest.raises(WorkerError, match=reason):
            worker.receive(Deadline(0.3 if behaviour == "hang" else 20))
        # One that is able to answer is still there; of the others the reason remains.
        assert worker.alive == (behaviour == "refuse")
        worker.send({"prepare": {}})
        with pytest.raises(WorkerError, match=reason):
            worker.receive(Deadline(20))
    finally:
        worker.close()
    assert "what a library says" in (tmp_path / "log").read_text()


def test_those_that_work_are_measured_beside_those_that_fail(tmp_path: Path) -> None:
    behaviours = ("b=crash", "c=refuse", "d=tire", "e=hang")
    team = Team(tuple("abcde"), lambda name: stub(name, tmp_path / "log", *behaviours))
    begin = time.monotonic()
    try:
        rows = team.measure({}, prepare=Deadline(1.5), seconds=0.1, end=Deadline(20))
    finally:
        team.close()
    assert time.monotonic() - begin < 10
    assert "error" not in rows["a"]
    assert rows["a"]["count"] >= 40
    assert rows["a"]["median_ms"] == pytest.approx(1.0, abs=0.1)
    assert rows["a"]["launches"] == 17
    assert "status 3" in rows["b"]["error"]
    assert rows["c"]["error"] == "OutOfMemoryError: 80 GiB"
    # What was measured before it failed is kept.
    assert rows["d"]["error"] == "tired"
    assert rows["d"]["count"] == 80
    assert "no answer" in rows["e"]["error"]
    assert all("median_ms" not in rows[name] for name in "bce")


def test_the_end_comes_before_the_first_round_is_over(tmp_path: Path) -> None:
    team = Team(("a", "b"), lambda name: stub(name, tmp_path / "log"))
    try:
        rows = team.measure({}, prepare=Deadline(20), seconds=5, end=Deadline(0))
    finally:
        team.close()
    assert all("no answer" in row["error"] for row in rows.values())


def test_a_server_answers_failures_and_times_runs() -> None:
    runs = []

    def prepare(variant: str, question: dict) -> Prepared:  # type: ignore[type-arg]
        if question["fail"]:
            raise ValueError("first line\nsecond line")
        return Prepared(lambda: runs.append(variant), {"fact": 1})

    server = Server("x", prepare)
    assert server.answer({"turn": 0.001}) == {"error": "RuntimeError: nothing is prepared"}
    assert server.answer({"prepare": {"fail": True}}) == {"error": "ValueError: first line"}
    assert server.answer({"prepare": {"fail": False}})["fact"] == 1
    taken = server.answer({"turn": 0.001})["nanoseconds"]
    assert len(taken) == len(runs) - 1
    assert server.answer({"turn": 0.0})["nanoseconds"][0] >= 0
    assert len(server.answer({"turn": 0.0})["nanoseconds"]) == 1
    # A failed preparation leaves nothing to time.
    assert "error" in server.answer({"prepare": {"fail": True}})
    assert "nothing is prepared" in server.answer({"turn": 0.0})["error"]
