"""Made-up measurements of candidates, for tests of what is concluded from them."""

from __future__ import annotations

from typing import Any

import numpy as np

from dmpc_fast.evaluation.continuation import TrueParts
from dmpc_fast.evaluation.probe import Parts, Probe


def parts(total: np.ndarray) -> Parts:
    return Parts(total, 0.2 * total, 0.0 * total, 0.8 * total)


def made_up_probe(rng: np.random.Generator, count: int = 32, **changes: Any) -> Probe:
    """A probe whose objective knows nothing, with returns that repeat, F = 5, S = 4 and A = 2."""
    returns = np.tile(rng.normal(50, 5, count), (2, 1))
    true = rng.normal(size=(count, 5, 4))
    fields: dict[str, Any] = {
        "at_rest": False,
        "present": rng.normal(size=4),
        "actions": rng.normal(size=(count, 5, 2)),
        "predicted": true + 0.1 * rng.normal(size=true.shape),
        "true": true,
        "over": np.zeros((count, 5), bool),
        "by_predicted": parts(rng.normal(size=count)),
        "by_true": parts(rng.normal(size=count)),
        "rewards": TrueParts(rng.normal(size=count), np.zeros(count)),
        "going": np.ones(count, bool),
        "with_value": rng.normal(size=count),
        "continued": rng.normal(size=(2, count)),
        "returns": returns,
        "wide_returns": returns.copy(),
        "executed_returns": returns.copy(),
    }
    return Probe(**{**fields, **changes})
