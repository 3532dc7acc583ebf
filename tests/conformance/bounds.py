"""How far a backend may be from the float64 reference: the one table, and the one measure.

A backend's error is bounded by twice torch's own in the same dtype, plus a few roundings, and by a
ceiling that holds whatever torch does.
"""

from __future__ import annotations

import numpy as np

#: dtype -> (unit of rounding, ceiling of the relative rms error of any stage).
DTYPES = {
    "float64": (2.0**-52, 1e-13),
    "float32": (2.0**-23, 3e-6),
    "bf16": (2.0**-8, 0.06),
}
ROUNDINGS = 4


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


def limit(dtype: str, torch_error: float) -> float:
    """The largest error that a backend may have where torch has `torch_error`."""
    rounding, ceiling = DTYPES[dtype]
    return min(2 * torch_error + ROUNDINGS * rounding, ceiling)
