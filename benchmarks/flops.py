"""The work of one plan: floating-point operations of its matrix products and bytes of its weights."""

from __future__ import annotations

from dataclasses import dataclass

from dmpc_fast.spec import STAGES, ModelSpec


@dataclass(frozen=True)
class Work:
    """flops: of matrix products, a multiply-add counting two. weight_bytes: of the weights that the
    products read, once, in their own precision."""

    flops: float
    weight_bytes: float


def plan_work(
    spec: ModelSpec,
    num_samples: int,
    proposal_steps: int,
    dynamics_steps: int,
    *,
    bytes_per_weight: int = 4,
) -> dict[str, Work]:
    """Work of one plan of one robot by stage, and under ``plan`` in total.

    Counts embeddings of tokens, attention, MLP and the last layer for all candidates. The modulation
    is computed once per step, not per candidate, and is left out, as are the elementwise operations.
    What is counted is the network as it is defined: for trajectories of a single token the C++ engine
    needs less (docs/engine.md).
    """
    evaluations = {"proposal": proposal_steps, "dynamics": dynamics_steps, "objective": 1}
    work = {}
    for stage in STAGES:
        times = evaluations[stage] * spec.stages[stage].members
        weights = _weights_per_token(spec, stage)
        flops = num_samples * times * _flops_per_candidate(spec, stage, weights)
        work[stage] = Work(flops, float(weights * spec.stages[stage].members * bytes_per_weight))
    work["plan"] = Work(
        sum(one.flops for one in work.values()), sum(one.weight_bytes for one in work.values())
    )
    return work


def _weights_per_token(spec: ModelSpec, stage: str) -> int:
    """Weights of the matrices that every token passes through."""
    sizes = spec.stages[stage]
    inner = sizes.heads * sizes.head_size
    features = spec.noisy_size(stage) + spec.clean_size(stage)
    layer = sizes.width * 3 * inner + inner * sizes.width + 2 * sizes.width * sizes.mlp
    ends = sizes.patch * sizes.width * (features + spec.output_size(stage))
    return sizes.layers * layer + ends


def _flops_per_candidate(spec: ModelSpec, stage: str, weights: int) -> float:
    sizes = spec.stages[stage]
    tokens = spec.horizon // sizes.patch
    # Logits and weighted values: two products of tokens x tokens x (heads * head size) a layer.
    attention = sizes.layers * 2 * tokens * tokens * sizes.heads * sizes.head_size
    return 2.0 * (tokens * weights + attention)
