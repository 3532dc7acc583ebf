"""The timer: what it runs, in which order, and what it makes of the samples. No test asserts a time."""

from __future__ import annotations

import gc
import itertools
import os

import numpy as np
import pytest

from dmpc_fast.latency import Budget, SpinReference, measure, summarize


def test_every_variant_runs_once_a_round_in_changing_order() -> None:
    calls: list[str] = []
    variants = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    samples = measure(variants, Budget(plans=40), warmup=2)
    assert [len(part.nanoseconds) for part in samples.values()] == [40, 40, 40]
    assert [len(part.warmup) for part in samples.values()] == [2, 2, 2]
    assert "".join(calls[:6]) == "aabbcc"
    rounds = ["".join(calls[i : i + 3]) for i in range(6, len(calls), 3)]
    assert all(sorted(names) == list("abc") for names in rounds)
    assert len(set(rounds)) > 1


def test_durations_are_of_the_given_clock() -> None:
    ticks = itertools.count(step=5)
    samples = measure({"a": lambda: next(ticks)}, Budget(plans=3), clock=lambda: next(ticks))
    assert samples["a"].nanoseconds.tolist() == [10, 10, 10]


def test_the_time_of_a_budget_ends_rounds_and_never_the_first() -> None:
    samples = measure({"a": lambda: None, "b": lambda: None}, Budget(plans=1000, seconds=1e-9))
    assert [len(part.nanoseconds) for part in samples.values()] == [1, 1]


def test_samples_are_in_the_order_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.accumulate([0, 7, 0, 100, 0, 300, 0, 200])  # start, end, start, end, ...
    monkeypatch.setattr("dmpc_fast.latency.time.perf_counter_ns", lambda: next(ticks))
    samples = measure({"a": lambda: None}, Budget(plans=3), warmup=1)["a"]
    assert samples.warmup.tolist() == [7]
    assert samples.nanoseconds.tolist() == [100, 300, 200]
    assert samples.summary().median_s == pytest.approx(200e-9)


@pytest.mark.parametrize("count", [1, 99, 100, 999, 1000, 1001, 12345])
def test_at_most_one_in_hundred_exceeds_the_tail(count: int) -> None:
    values = np.random.default_rng(count).permutation(count) + 1
    summary = summarize(values)
    assert summary.count == count
    assert summary.max_s == pytest.approx(count * 1e-9)
    for one_in, tail in ((100, summary.p99_s), (1000, summary.p999_s)):
        if count < one_in:
            assert tail is None
        else:
            assert tail is not None
            above = int(np.sum(values * 1e-9 > tail * (1 + 1e-9)))
            assert above == count // one_in


def test_no_sample_has_no_summary() -> None:
    with pytest.raises(ValueError, match="n >= 1"):
        summarize(np.zeros(0, np.int64))


def test_a_spin_runs_beside_the_variant_it_is_like() -> None:
    cpu = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    before = None if cpu is None else os.sched_getaffinity(0)
    variants = {"work": lambda: sum(range(2000)), "spin": SpinReference("work", cpu)}
    samples = measure(variants, Budget(plans=5))
    assert list(samples) == ["work", "spin"]
    assert len(samples["spin"].nanoseconds) == 5
    assert (samples["spin"].nanoseconds > 0).all()
    assert before is None or os.sched_getaffinity(0) == before


def test_samples_in_a_row_and_runs_that_settle_before_them() -> None:
    calls: list[str] = []
    variants = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    samples = measure(variants, Budget(plans=5), warmup=1, turn=3)
    assert [len(part.nanoseconds) for part in samples.values()] == [5, 5]
    turns = ["".join(group) for _, group in itertools.groupby(calls[2:])]
    assert sorted("".join(turns)) == list("aaaaabbbbb")
    assert max(map(len, turns)) <= 6 and sorted("".join(calls[2:8])) == list("aaabbb")
    calls.clear()
    samples = measure(variants, Budget(plans=2), warmup=1, turn=2, settle_s=1e-3)
    assert [len(part.nanoseconds) for part in samples.values()] == [2, 2]
    assert len(calls) > 6, "untimed runs before a turn"


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one callable"):
        measure({}, Budget())
    with pytest.raises(ValueError, match=r"one of \['a'\], got 'b'"):
        measure({"a": lambda: None, "spin": SpinReference("b")}, Budget())
    with pytest.raises(ValueError, match="warmup must be 1 or more, got 0"):
        measure({"a": lambda: None}, Budget(), warmup=0)
    with pytest.raises(ValueError, match="turn must be 1 or more, got 0"):
        measure({"a": lambda: None}, Budget(), turn=0)
    with pytest.raises(ValueError, match="settle_s must be a number of seconds from 0 on, got nan"):
        measure({"a": lambda: None}, Budget(), settle_s=float("nan"))
    with pytest.raises(ValueError, match="plans must be 1 or more, got 0"):
        Budget(plans=0)
    with pytest.raises(ValueError, match="seconds must be positive, got 0"):
        Budget(seconds=0)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_spin_on_a_processor_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="cpu must be one of"):
        measure({"a": lambda: None, "spin": SpinReference("a", cpu=1 << 20)}, Budget())


def test_an_error_of_a_variant_comes_out_and_garbage_collection_returns() -> None:
    def fail() -> None:
        assert not gc.isenabled()
        raise RuntimeError("no plan")

    assert gc.isenabled()
    with pytest.raises(RuntimeError, match="no plan"):
        measure({"a": fail}, Budget())
    assert gc.isenabled()
