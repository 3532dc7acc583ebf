"""A plan of fixed shapes: its buffers, its launches, and the CUDA graph that replays them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dmpc_fast import noise, objectives, philox
from dmpc_fast.backends.triton.network import Modulations, Network, Stream, Tiles
from dmpc_fast.kernels import update as update_op
from dmpc_fast.kernels.philox import start
from dmpc_fast.kernels.ranking import ranking
from dmpc_fast.kernels.scoring import TERM_COLUMNS, Statistics, scoring
from dmpc_fast.kernels.update import Edge, Row, update
from dmpc_fast.spec import OBJECTIVE_OUTPUTS, ModelSpec, SamplerSpec


@dataclass(frozen=True)
class GroupShape:
    """count: C. proposal, dynamics: samplers. given: whether it starts from given actions."""

    count: int
    proposal: SamplerSpec
    dynamics: SamplerSpec
    given: bool


@dataclass(frozen=True)
class PlanShape:
    """All of a request that is no number in a buffer: requests of one shape share a program."""

    robots: int
    groups: tuple[GroupShape, ...]
    terms: int
    learned: bool

    @property
    def num_samples(self) -> int:
        return sum(group.count for group in self.groups)


class Parts(NamedTuple):
    """The model on the device: networks, units, discounts gamma^0..gamma^F and their logarithms."""

    spec: ModelSpec
    proposal: Network
    dynamics: Network
    objective: tuple[Network, ...]
    edges: Mapping[str, Edge]
    statistics: Statistics
    discounts: Tensor
    log_discounts: Tensor
    device: torch.device
    processors: int


class Program:
    """Launches of plans of one shape, on buffers of their own.

    The caller fills the inputs, calls a stage or `plan`, and reads the outputs; all of it happens on
    the current stream and nothing waits for the device.

    Attributes:
        condition: input (B, size). seed: input (1,) int64. words: input (B, 2) int32, see
            `dmpc_fast.kernels.philox.start`. starts: input (B, C, F, A) of groups that are given
            actions, environment units. terms: input (count, 6).
        actions, states: outputs in environment units, inputs of later stages. scores, violations,
            tie_breaks (B, N), best (B,) int64, action (B, A): outputs.
    """

    def __init__(self, parts: Parts, shape: PlanShape) -> None:
        spec, count, robots = parts.spec, shape.num_samples, shape.robots
        self._parts, self._shape = parts, shape
        self._graph: torch.cuda.CUDAGraph | None = None

        def empty(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.empty(size, dtype=dtype, device=parts.device)

        trajectory = (robots, count, spec.horizon)
        self.condition = empty(robots, spec.condition_size)
        self.seed, self.words = empty(1, dtype=torch.int64), empty(robots, 2, dtype=torch.int32)
        self.starts = [
            empty(robots, group.count, spec.horizon, spec.action_size) if group.given else None
            for group in shape.groups
        ]
        self.terms = empty(shape.terms, TERM_COLUMNS)
        self.actions, self._x_actions = (empty(*trajectory, spec.action_size) for _ in range(2))
        self.states, self._x_states = (empty(*trajectory, spec.state_size) for _ in range(2))
        members = len(parts.objective) if shape.learned else 1
        outputs = trajectory if shape.learned else (0, 0, 0)
        self._predictions = empty(members, *outputs, OBJECTIVE_OUTPUTS)
        self.scores, self.violations, self.tie_breaks = (empty(robots, count) for _ in range(3))
        self.best, self.action = empty(robots, dtype=torch.int64), empty(robots, spec.action_size)
        self._angles = {
            (stage, sampler): getattr(parts, stage).angles(noise.compile_sampler(sampler))
            for stage in ("proposal", "dynamics")
            for sampler in {getattr(group, stage) for group in shape.groups}
        }
        self._workspace: list[Tensor] = []
        self._workspace = [empty(size) for size in self._workspace_sizes() for _ in range(2)]

    def sample(self) -> None:
        """Draw `actions`."""
        for first, group, given in self._groups():
            rows = noise.compile_sampler(group.proposal)
            sin, cos, raw = 1.0, 0.0, given
            if given is not None:
                cos, sin = noise.diffuse(1.0, 0.0, rows[0].t), noise.diffuse(0.0, 1.0, rows[0].t)
                raw = self._normalised("action", given)
            self._denoise(
                "proposal", first, group, group.proposal, self._x_actions, self._x_actions[:, :, :, :0],
                self.actions, raw, cos, sin,
            )  # fmt: skip

    def predict(self) -> None:
        """Predict `states` of what `normalise_actions` or `sample` left."""
        for first, group, _ in self._groups():
            self._denoise(
                "dynamics", first, group, group.dynamics, self._x_states, self._x_actions, self.states,
                None, 0.0, 1.0,
            )  # fmt: skip

    def score(self) -> None:
        """Score `states` and `actions` and what `normalise_...` or the stages before left."""
        if self._shape.learned:
            for number, network in enumerate(self._parts.objective):
                self._evaluate_objective(network, self._predictions[number])
        scoring(
            self.states, self.actions, self._predictions, self.terms, self._parts.discounts,
            self._parts.log_discounts, self._parts.statistics, self.scores, self.violations,
            self.tie_breaks, learned=self._shape.learned,
        )  # fmt: skip

    def normalise_actions(self) -> None:
        """Take over `actions` that were given."""
        self._x_actions.copy_(self._normalised("action", self.actions))

    def normalise_states(self) -> None:
        """Take over `states` that were given."""
        self._x_states.copy_(self._normalised("state", self.states))

    def plan(self) -> None:
        """All stages and the ranking: a replay of their graph on a GPU, from the second call on."""
        if self._graph is not None:
            self._graph.replay()
            return
        self._launch()
        if self._parts.device.type == "cuda":
            # The first call compiled every kernel, which a capture does not allow.
            torch.cuda.current_stream().synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._launch()
            self._graph = graph

    def _launch(self) -> None:
        self.sample()
        self.predict()
        self.score()
        ranking(self.scores, self.violations, self.tie_breaks, self.actions, self.best, self.action)

    def _groups(self) -> Iterator[tuple[int, GroupShape, Tensor | None]]:
        first = 0
        for group, given in zip(self._shape.groups, self.starts, strict=True):
            yield first, group, given
            first += group.count

    def _denoise(
        self,
        stage: str,
        first: int,
        group: GroupShape,
        sampler: SamplerSpec,
        x: Tensor,
        clean: Tensor,
        out: Tensor,
        given: Tensor | None,
        cos: float,
        sin: float,
    ) -> None:
        """Take one group's candidates of `x` through a sampler; its results in environment units
        go to `out`."""
        network: Network = getattr(self._parts, stage)
        number = philox.STAGE_IDS[stage]
        start(
            given, self.seed, self.words, x, first=first, count=group.count, cos=cos, sin=sin,
            stage=number,
        )  # fmt: skip
        tiles, streams = self._cut(network, group.count)
        with ieee_products():
            modulations = network.modulations(self.condition, self._angles[stage, sampler])
        rows = noise.compile_sampler(sampler)
        for i, row in enumerate(rows):
            stream = network.evaluate(x, clean, modulations, i, streams, tiles, first=first)
            last = i + 1 == len(rows)
            update(
                stream.x, stream.parts, modulations.last[:, i], network.last, x, self.seed,
                self.words, row=Row(row.a, row.b, row.noise, number, i + 1), first=first,
                tile=tiles.ends, precision=network.precision.ends,
                edge=self._parts.edges[stage] if last else None, out=out if last else None,
            )  # fmt: skip

    def _evaluate_objective(self, network: Network, out: Tensor) -> None:
        tiles, streams = self._cut(network, self._shape.num_samples)
        with ieee_products():
            modulations: Modulations = network.modulations(self.condition, None)
        stream = network.evaluate(
            self._x_states, self._x_actions, modulations, 0, streams, tiles, first=0
        )
        update_op.outputs(
            stream.x, stream.parts, modulations.last[:, 0], network.last, out, tile=tiles.ends,
            precision=network.precision.ends,
        )  # fmt: skip

    def _cut(self, network: Network, count: int) -> tuple[Tiles, tuple[Stream, Stream]]:
        """Tiles for `count` candidates and the workspace in that shape."""
        robots = self._shape.robots
        tiles = network.tiles(robots, count, self._parts.processors)
        shape = (robots, count, network.tokens, network.sizes.width)
        size, splits = int(np.prod(shape)), max(tiles.attention.splits, tiles.mlp.splits)
        first, second = (
            Stream(x[:size].view(shape), parts[: size * splits].view(splits, *shape))
            for x, parts in zip(self._workspace[:2], self._workspace[2:], strict=True)
        )
        return tiles, (first, second)

    def _workspace_sizes(self) -> tuple[int, int]:
        """Floats that x and parts of any group and stage need."""
        whole, split = 0, 0
        networks = [self._parts.proposal, self._parts.dynamics]
        work = [(network, group.count) for network in networks for group in self._shape.groups]
        work += [(network, self._shape.num_samples) for network in self._parts.objective]
        for network, count in work:
            tiles = network.tiles(self._shape.robots, count, self._parts.processors)
            size = self._shape.robots * count * network.tokens * network.sizes.width
            whole = max(whole, size)
            split = max(split, size * max(tiles.attention.splits, tiles.mlp.splits))
        return whole, split

    def _normalised(self, name: str, values: Tensor) -> Tensor:
        edge = self._parts.edges["proposal" if name == "action" else "dynamics"]
        return (values - edge.mean) / edge.scale


def device_parts(
    spec: ModelSpec,
    networks: tuple[Network, Network, tuple[Network, ...]],
    edges: Mapping[str, Edge],
    statistics: Statistics,
    device: torch.device,
    processors: int,
) -> Parts:
    """`Parts` with the discounts of `spec`."""
    powers = objectives.discount_powers(spec.discount, spec.horizon)
    discounts, logs = (
        torch.tensor(values, dtype=torch.float32, device=device)
        for values in (powers, np.log(powers))
    )
    return Parts(
        spec, *networks, edges, statistics, discounts, logs, device, processors
    )  # fmt: skip


@contextmanager
def ieee_products() -> Iterator[None]:
    """Condition vectors are float32 whatever the process has allowed torch to round."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
