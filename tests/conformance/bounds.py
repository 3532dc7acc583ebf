"""How far a backend may be from the float64 reference: the one table, and the one measure.

A backend's error is bounded by twice what rounding does to that instance, plus a few roundings, and
by a ceiling that holds whatever that is. What rounding does is torch's own error in the same dtype or
what the reference itself makes of weights that are off by a rounding, whichever is larger: some random
models amplify roundings tenfold, and torch's one draw of them may be a lucky one.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from dmpc_fast.model_file import Model

#: dtype -> (unit of rounding, ceiling of the relative rms error of any stage).
DTYPES = {
    "float64": (2.0**-52, 1e-13),
    "float32": (2.0**-23, 3e-6),
    "bf16": (2.0**-8, 0.06),
}
ROUNDINGS = 4
#: How often the weights are displaced to see what an instance makes of it.
DRAWS = 3


def error(values: np.ndarray, reference: np.ndarray) -> float:
    """rms(values - reference) / rms(reference).

    Random models live at the scale of one: smaller references, such as violations that are all but
    zero and scores whose terms cancel, are measured against that.
    """
    assert values.shape == reference.shape
    assert np.isfinite(values).all()
    difference = values.astype(np.float64) - reference
    return float(_rms(difference) / max(1.0, _rms(reference)))


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def displaced(model: Model, dtype: str, generator: np.random.Generator) -> Model:
    """The model with every weight moved by up to one rounding of the dtype, kept in float64."""
    rounding, _ = DTYPES[dtype]
    tensors = {
        name: tensor * (1 + rounding * generator.uniform(-1, 1, tensor.shape))
        for name, tensor in model.tensors.items()
    }
    return dataclasses.replace(model, tensors=tensors)


def limit(dtype: str, rounding_error: float) -> float:
    """The largest error that a backend may have where rounding makes one of `rounding_error`."""
    rounding, ceiling = DTYPES[dtype]
    return min(2 * rounding_error + ROUNDINGS * rounding, ceiling)


def at_ceiling(dtype: str, rounding_error: float) -> bool:
    """Whether rounding makes so much of an instance that the ceiling alone would bound a backend:
    about one random model in a hundred, on which the luck of a draw decides who stays below."""
    return limit(dtype, rounding_error) == DTYPES[dtype][1]
