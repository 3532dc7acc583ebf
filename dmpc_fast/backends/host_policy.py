"""The reactive policy in NumPy, for backends whose device would gain nothing from so few products."""

from __future__ import annotations

import numpy as np

from dmpc_fast.backends.base import PlanRequest, check_policy, check_request
from dmpc_fast.model_file import Model
from dmpc_fast.normalizer import condition_vector

#: Of GELU in its tanh form: sqrt(2 / pi), and the weight of the cube.
GELU_SCALE, GELU_CUBE = np.float32(np.sqrt(2 / np.pi)), np.float32(0.044715)


class HostPolicy:
    """The policy of `model` in float32, where it has one."""

    def __init__(self, model: Model) -> None:
        self._spec, self._normalizer = model.spec, model.normalizer
        names = [name for name in model.spec.policy_shapes() if name.endswith(".weight")]
        #: Weights (inputs, outputs) and biases, in the order of the layers, which is the spec's.
        self._layers = [
            (
                np.ascontiguousarray(model.tensors[f"policy.{name}"].T),
                model.tensors["policy." + name.replace(".weight", ".bias")],
            )
            for name in names
        ]
        environment = model.spec.environment
        self._low, self._high = (
            np.array([absent if bound is None else bound for bound in bounds], np.float32)
            for bounds, absent in (
                (environment.action_low, -np.inf),
                (environment.action_high, np.inf),
            )
        )

    def react(self, request: PlanRequest) -> np.ndarray:
        """Actions (B, A), clipped to the action bounds. Raises ValueError where there is no policy."""
        check_policy(self._spec)
        check_request(self._spec, request)
        x = condition_vector(
            self._normalizer, request.states, request.actions, request.mask, request.context
        )
        *hidden, (weight, bias) = self._layers
        for inner, offset in hidden:
            x = _gelu(x @ inner + offset)
        actions: np.ndarray = self._normalizer.action.denormalize(x @ weight + bias)
        return actions.astype(np.float32, copy=False).clip(self._low, self._high)


def _gelu(x: np.ndarray) -> np.ndarray:
    half = np.float32(0.5)
    result: np.ndarray = half * x * (1 + np.tanh(GELU_SCALE * (x + GELU_CUBE * x * x * x)))
    return result
