"""One denoiser over states and actions together (Diffuser, Janner et al. 2022), on the product's blocks.

To the network, a step's "action" is the state that follows and the action, side by side: a joint model
is the proposal of a robot with S + A actions, the first S of them unbounded. It is trained, stored and
sampled as every proposal is, on every backend.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from dmpc_fast.backends.base import Backend
from dmpc_fast.data.episodes import EpisodeStore
from dmpc_fast.evaluation.rival_planners.world import World
from dmpc_fast.spec import ModelSpec, SamplerSpec, StageSpec


def joint_store(store: EpisodeStore) -> EpisodeStore:
    """The same episodes, with actions (T, S + A): the state that follows, then the action."""
    first = store.offsets[:-1] + np.arange(store.num_episodes)
    following = np.delete(np.asarray(store.observations), first, axis=0)
    unbounded = (None,) * store.observations.shape[1]
    environment = dataclasses.replace(
        store.environment,
        action_low=(*unbounded, *store.environment.action_low),
        action_high=(*unbounded, *store.environment.action_high),
    )
    actions = np.concatenate([following, np.asarray(store.actions)], axis=1)
    return dataclasses.replace(store, actions=actions, environment=environment)


def joint_sizes(pair: ModelSpec, *, deep: bool) -> StageSpec:
    """Sizes of a joint network: the proposal's, or with `deep` the layers of the pair together. It is
    evaluated as often as the pair is for a trajectory."""
    proposal, dynamics = pair.stages["proposal"], pair.stages["dynamics"]
    assert proposal.sampler is not None and dynamics.sampler is not None
    steps = proposal.sampler.steps + dynamics.sampler.steps
    layers = proposal.layers + (dynamics.layers if deep else 0)
    return dataclasses.replace(proposal, layers=layers, sampler=SamplerSpec.uniform(steps))


class JointWorld(World):
    """A `World` whose candidates come with their states, out of one network.

    Args:
        spec, engine: the pair, whose learned objective scores. joint: what runs the joint model.
        seed: key of the random stream.
    """

    def __init__(self, spec: ModelSpec, engine: Backend, joint: Backend, *, seed: int) -> None:
        super().__init__(spec, engine, seed=seed)
        self._joint = joint
        self._proposed = (np.empty(0, np.float32), np.empty(0, np.float32))

    def propose(self, count: int) -> np.ndarray:
        size = self.spec.state_size
        tracks = self._joint.sample(self._request(count, size + self.spec.action_size))[0]
        states, actions = (
            np.ascontiguousarray(part) for part in (tracks[..., :size], tracks[..., size:])
        )
        self._proposed = (actions, states)
        return actions

    def predict(self, actions: np.ndarray) -> np.ndarray:
        """The states of the candidates proposed last; a joint model has none for others."""
        proposed, states = self._proposed
        if not np.array_equal(proposed, actions):
            raise ValueError("a joint model predicts states of its own last proposals alone")
        return states
