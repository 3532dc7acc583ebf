"""The student's loss: zero for who jumps right, and blind to what it must not see."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from gaussian import GaussianNetwork, gaussian_batch

from dmpc_fast.training.batches import EXTRA_DRAWS, Batch
from dmpc_fast.training.distillation import Distillation
from dmpc_fast.training.distributed import Processes
from dmpc_fast.training.losses import masked_distance
from dmpc_fast.training.student import StudentLoss
from dmpc_fast.training.student_gates import GateSums, gate_figures

SCALE = 0.4


def make_batch(seed: int, count: int = 64, step: int = 50) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    parts = gaussian_batch(generator, count, 6, 2, SCALE)
    nothing = torch.zeros(count, 6)
    return Batch(
        **parts,
        angle=torch.rand(count, generator=generator) * math.pi / 2,
        rewards=nothing,
        continues=nothing,
        value=nothing[:, 0],
        value_valid=nothing[:, 0].bool(),
        uniform=torch.rand(count, EXTRA_DRAWS, generator=generator),
        step=torch.tensor(float(step)),
    )


def loss_of(network: Any, guide: Any, batch: Batch, /, **settings: Any) -> dict[str, float]:
    loss = StudentLoss(Distillation(**settings), 50, guide)
    total, parts = loss(network, batch, len(batch.angle))
    return {name: float(part) for name, part in {**parts, "loss": total}.items()}


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("regression", {"solver": "multistep", "solver_steps": 64, "pure_noise": 0.5}),
        ("regression", {"solver": "multistep", "solver_steps": 64, "pure_noise": 1.0}),
        ("consistency", {"solver": "ddim", "solver_steps": 200, "pure_noise": 0.5}),
    ],
)
@pytest.mark.parametrize("intermediate", [0.0, 0.7])
def test_a_network_that_jumps_right_has_no_loss(
    method: str, settings: dict[str, Any], intermediate: float
) -> None:
    batch = make_batch(1)
    right, wrong = GaussianNetwork(SCALE), GaussianNetwork(2 * SCALE)
    settings = {**settings, "method": method, "intermediate": intermediate}
    small = loss_of(right, right, batch, denoising_weight=0.0, **settings)["loss"]
    large = loss_of(wrong, right, batch, denoising_weight=0.0, **settings)["loss"]
    assert small < 1e-4
    # A consistent but wrong student is seen by its first cells alone.
    assert large > (20 if method == "regression" else 3) * small


def test_a_low_temperature_makes_calmer_samples() -> None:
    """A Gaussian's flow is linear: from 0.3 times the noise it ends at 0.3 times the sample."""
    batch = make_batch(7)
    teacher, calm = GaussianNetwork(SCALE), GaussianNetwork(0.3 * SCALE)
    settings = {"solver": "multistep", "solver_steps": 64, "temperature": 0.3}
    assert loss_of(calm, teacher, batch, **settings)["loss"] < 1e-4
    assert loss_of(teacher, teacher, batch, **settings)["loss"] > 1e-2
    loss = StudentLoss(Distillation(**settings), 50, teacher)  # type: ignore[arg-type]
    assert loss.gates(calm, [batch], Processes())["paired_error"] < 2e-3  # type: ignore[arg-type]


def test_a_student_without_its_teacher_has_no_temperature() -> None:
    assert Distillation(temperature=0.3).without_teacher() == Distillation(teacher=False)


def test_students_of_before_there_was_a_temperature() -> None:
    entry = dataclasses.asdict(Distillation(huber=0.1))
    del entry["temperature"]
    made = Distillation.from_provenance("proposal", {"distillation": {"proposal": entry}})
    assert made == Distillation(huber=0.1)


def test_denoising_is_asked_for_at_the_angle_itself() -> None:
    """The mean square of v - E v: what no network can get below."""
    batch = make_batch(2, count=20000)
    right = GaussianNetwork(SCALE)
    parts = loss_of(right, right, batch, solver="multistep", solver_steps=32, denoising_weight=1.0)
    t = batch.angle.double()
    rest = SCALE**2 / (SCALE**2 * t.cos() ** 2 + t.sin() ** 2)
    expected = float(rest.mean()) * float(batch.valid.double().mean())
    assert parts["denoising"] == pytest.approx(expected, rel=0.03)
    assert parts["loss"] == pytest.approx(parts["jump"] + parts["denoising"])


@pytest.mark.parametrize("method", ["regression", "consistency"])
def test_without_a_teacher_the_data_stand_in(method: str) -> None:
    batch = make_batch(3)
    right = GaussianNetwork(SCALE)
    settings = {"method": method, "teacher": False, "pure_noise": 0.5}
    total = loss_of(right, None, batch, **settings)["loss"]
    if method == "regression":
        # The jump lands on the flow's end, which the noise ties to no example.
        landed = batch.condition[:, :1, None] + SCALE * batch.eps
        expected = masked_distance(landed, batch.clean, batch.valid, len(batch.angle), 0.0)
        assert total == pytest.approx(float(expected))
    else:
        assert 0 < total < 0.1
    with pytest.raises(ValueError, match="needs the teacher's network"):
        StudentLoss(Distillation(method=method), 50, None)  # type: ignore[arg-type]


def test_the_grid_of_angles_gets_finer() -> None:
    loss = StudentLoss(Distillation(first_cells=2, solver_steps=16), 100, GaussianNetwork(SCALE))  # type: ignore[arg-type]
    cells = [float(loss._cells(torch.tensor(float(step)))) for step in (0, 45, 90, 100, 1 << 40)]
    assert cells == [2, 6, 16, 16, 16]


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    batch = make_batch(4, count=12)
    teacher, student = GaussianNetwork(SCALE), GaussianNetwork(0.9)
    for method in ("regression", "consistency"):
        loss = StudentLoss(Distillation(method=method, huber=0.03), 50, teacher)  # type: ignore[arg-type]
        whole, _ = loss(student, batch, 12)  # type: ignore[arg-type]
        parts = [
            loss(student, Batch(*(x[rows] if x is not None and x.ndim else x for x in batch)), 12)[
                0
            ]  # type: ignore[arg-type]
            for rows in (slice(0, 5), slice(5, 12))
        ]
        torch.testing.assert_close(sum(parts), whole)


def test_distances_by_hand() -> None:
    found, wanted = torch.zeros(2, 2, 2), torch.ones(2, 2, 2)
    valid = torch.tensor([[True, True], [True, False]])
    assert float(masked_distance(found, wanted, valid, 2, 0.0)) == pytest.approx(6 / 8)
    each = [math.sqrt(1 + 0.25) - 0.5, math.sqrt(0.5 + 0.25) - 0.5]
    assert float(masked_distance(found, wanted, valid, 2, 0.5)) == pytest.approx(sum(each) / 2)


def test_gates_tell_a_right_student_from_a_calm_and_a_deaf_one() -> None:
    batches = [make_batch(seed) for seed in (5, 6)]
    teacher = GaussianNetwork(SCALE)
    settings = Distillation(solver="multistep", solver_steps=32)
    figures = {
        name: StudentLoss(settings, 50, teacher).gates(network, batches, Processes())  # type: ignore[arg-type]
        for name, network in (("right", teacher), ("calm", GaussianNetwork(SCALE / 2)))
    }
    # The teacher's way has many steps, not infinitely many.
    assert figures["right"]["paired_error"] < 2e-3
    assert figures["right"]["spread"] == pytest.approx(1, abs=0.15)
    assert figures["calm"]["paired_error"] == pytest.approx(0.125, rel=0.2)
    assert figures["calm"]["spread"] / figures["right"]["spread"] == pytest.approx(0.25)


def test_gate_figures_by_hand() -> None:
    sums = GateSums(*(torch.tensor(x) for x in ([1.0, 2.0], [2.0, 8.0], [4.0, 8.0])))
    assert gate_figures(sums) == pytest.approx(
        {"paired_error": 3 / 12, "spread": 10 / 12, "spread_low": 0.5, "spread_high": 1.0}
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "flow"}, "got 'flow'"),
        ({"solver": "euler"}, "got 'euler'"),
        ({"solver_steps": 0}, "solver_steps must be an integer from 1 to 255, got 0"),
        ({"pure_noise": 1.5}, r"pure_noise must lie in \[0, 1\], got 1.5"),
        ({"huber": -1.0}, "huber must be at least 0, got -1.0"),
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        (
            {"temperature": 0.5, "pure_noise": 0.5},
            "temperature 0.5 needs jumps of a teacher's whole",
        ),
        ({"temperature": 0.5, "intermediate": 0.5}, "temperature 0.5 needs"),
        ({"temperature": 0.5, "method": "consistency"}, "temperature 0.5 needs"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Distillation(**settings)
