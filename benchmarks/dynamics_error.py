"""Error of dynamics models on held-out windows of the data that they learned from, without a simulator.

python -m benchmarks.dynamics_error MODEL... --dataset ID [--windows 4000] [--json FILE]

Root mean square over windows and dimensions, in standard deviations, after each step of the horizon,
with the file's own sampler. Windows are those that the model's own training held out, by the seed and
share that its provenance names, and reach no episode's end.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dmpc_fast.data.minari import load_episodes
from dmpc_fast.model_file import load_model, write_atomically
from dmpc_fast.models.loading import load_networks
from dmpc_fast.normalizer import condition_vector
from dmpc_fast.training.run import held_out_split
from dmpc_fast.training.settings import TrainingSettings
from dmpc_fast.training.solver import way

SHOWN = (1, 2, 4, 8, 16, 32)


def measure(path: Path, dataset: str, count: int) -> dict[str, Any]:
    """Errors of one model: `errors` (F,), how many windows they are over, and what the file is."""
    model = load_model(path)
    made = model.spec.provenance["training"]
    split = {name: made[name] for name in ("seed", "validation_fraction")}
    store = load_episodes([dataset], progress=False)
    _, held_out = held_out_split(
        store, model.spec, TrainingSettings(steps={"dynamics": 1}, **split)
    )
    generator = np.random.default_rng(1)
    drawn = generator.choice(len(held_out), min(count, len(held_out)), replace=False)
    window = held_out.batch(np.sort(drawn))
    window = type(window)(*(part[window.valid.all(1)] for part in window))
    scales, sampler = model.normalizer, model.spec.stages["dynamics"].sampler
    assert sampler is not None  # the spec gives every denoiser one
    if sampler.rule != "ddim":
        raise ValueError(f"{path} has dynamics of the rule {sampler.rule!r}, expected 'ddim'")
    true = scales.state.normalize(window.next_states).astype(np.float32)
    actions = torch.from_numpy(scales.action.normalize(window.actions).astype(np.float32))
    condition = torch.from_numpy(
        condition_vector(scales, window.states, window.past_actions, window.mask)
    )
    eps = torch.from_numpy(generator.standard_normal(true.shape, dtype=np.float32))
    network = load_networks(model.spec, model.tensors).dynamics
    found = way(network, eps, actions, condition, None, "ddim", sampler.steps)[-1].numpy()
    return {
        "model_sha256": model.sha256,
        "dataset": dataset,
        "windows": len(true),
        "sampler_steps": sampler.steps,
        **split,
        "errors": np.sqrt(np.square(found - true).mean((0, 2))).tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--dataset", required=True, help="Minari id")
    parser.add_argument("--windows", type=int, default=4000, help="at most (default: 4000)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    rows = {}
    for path in args.models:
        label = path.parent.name if path.name == "model.safetensors" else path.stem
        rows[label] = row = measure(path, args.dataset, args.windows)
        errors = row["errors"]
        shown = ", ".join(f"{k}: {errors[k - 1]:.3f}" for k in SHOWN if k <= len(errors))
        print(
            f"{label} ({row['windows']} windows): {shown}; mean {np.mean(errors):.3f}", flush=True
        )
    if args.json is not None:
        write_atomically(args.json, (json.dumps(rows, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
