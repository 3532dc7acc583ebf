"""What the objective is worth, one way of learning it at a time, beside one proposal and dynamics.

    python -m benchmarks.objective_arms --dataset dmpc/hopper/medium-v0 --env Hopper-v5 \
      --model runs/hopper-medium/model.safetensors --out runs/objective-hopper-medium

Every arm trains the objective alone on the model's dataset and runs the same episodes; tuning seeds.
OUT/arms.json and OUT/table.md hold what is measured so far; an arm that is there is not run again, and
one whose training was cut short resumes. `--arms NAME ...` runs a choice of them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from dmpc_fast.assets import resolve
from dmpc_fast.evaluation.evaluate import evaluate
from dmpc_fast.model_file import load_model
from dmpc_fast.statistics import mean_and_error
from dmpc_fast.training.api import train

#: Options of `dmpc_fast.train` that differ from the usual ones.
ARMS: dict[str, dict[str, Any]] = {
    "mean of the returns": {},
    "expectile 0.7": {"value_expectile": 0.7},
    "expectile 0.9": {"value_expectile": 0.9},
    "bootstrap": {"value_bootstrap": True},
    "bootstrap, expectile 0.7": {"value_bootstrap": True, "value_expectile": 0.7},
    "bootstrap, expectile 0.9": {"value_bootstrap": True, "value_expectile": 0.9},
    "weighted by return, 0.3": {"objective_temperature": 0.3},
    "weighted by return, 1": {"objective_temperature": 1.0},
    "noise 0.1 on states": {"state_noise": 0.1},
    "predicted states, half": {"predicted_states": 0.5},
    "predicted states, all": {"predicted_states": 1.0},
    "mean of 4 networks": {"objective_members": 4},
    "discount 0.95": {"discount": 0.95},
    "discount 0.995": {"discount": 0.995},
    "penalty 20": {"termination_penalty": 20.0},
    "penalty 400": {"termination_penalty": 400.0},
    "another seed": {"seed": 1},
}


def trained(name: str, args: argparse.Namespace) -> Path:
    """The model with the arm's objective; from its folder where it is there."""
    out = args.out / name.replace(" ", "-").replace(",", "")
    if (out / "model.safetensors").exists():
        return Path(out / "model.safetensors")
    spec = load_model(resolve(args.model)).spec
    options: dict[str, Any] = {
        "discount": spec.discount,
        "termination_penalty": spec.termination_penalty,
        "stage_options": {"patch": spec.stages["objective"].patch},
        "start_fraction": args.start_fraction,
        **ARMS[name],
    }
    return train(
        args.dataset,
        base=resolve(args.model),
        only=["objective"],
        out=out,
        steps={"objective": args.steps},
        horizon=spec.horizon,
        history=spec.history,
        recommended=dict(spec.recommended),
        resume=(out / "settings.json").exists(),
        threads=1,
        **options,
    )


def measured(model: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Scores of the episodes that every arm runs."""
    found = evaluate(
        model,
        args.env,
        episodes=args.episodes,
        seed=args.seed,
        num_samples=args.num_samples,
        action_chunk=args.action_chunk,
        num_elites=args.num_elites,
        backend="cpu",
        dtype="bf16",
        batch=args.batch,
    )
    assert found.scores is not None
    mean = mean_and_error(found.scores)
    return {
        "score": [float(mean.mean), float(mean.standard_error)],
        "scores": np.asarray(found.scores).tolist(),
    }


def table(rows: dict[str, Any]) -> str:
    """The arms as Markdown, the best first."""
    lines = ["| objective | score | validation loss of the value |", "|---|---|---|"]
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["score"][0]):
        mean, error = row["score"]
        loss = row.get("validation_value")
        lines.append(
            f"| {name} | {mean:.1f} ± {error:.1f} | {'' if loss is None else f'{loss:.3f}'} |"
        )
    return "\n".join(lines) + "\n"


def last_validation(run: Path) -> float | None:
    """The last held-out loss of the value in a run's log."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    values = [json.loads(line).get("validation_value") for line in lines]
    known = [value for value in values if value is not None]
    return float(known[-1]) if known else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", action="append", required=True)
    parser.add_argument("--env", required=True)
    parser.add_argument("--model", required=True, help="whose proposal and dynamics are used")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--start-fraction", type=float, default=0.0)
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-samples", type=int)
    parser.add_argument("--action-chunk", type=int)
    parser.add_argument("--num-elites", type=int)
    parser.add_argument("--batch", type=int, default=20)
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "arms.json"
    rows: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    for name in args.arms:
        if name not in rows:
            model = trained(name, args)
            rows[name] = measured(model, args)
            rows[name]["validation_value"] = last_validation(model.parent)
            file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
            (args.out / "table.md").write_text(table(rows), encoding="utf-8")
        mean, error = rows[name]["score"]
        print(f"{name}: {mean:.1f} ± {error:.1f}", flush=True)


if __name__ == "__main__":
    main()
