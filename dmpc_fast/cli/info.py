"""`dmpc-fast info`: what a model file holds."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any

from dmpc_fast.spec import STAGES, ModelSpec, StageSpec


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "info", help="show a model's sizes, samplers and provenance"
    )
    parser.add_argument("model", help="model file, or the name of a shipped model")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def run(args: argparse.Namespace) -> int:
    from dmpc_fast.assets import resolve
    from dmpc_fast.model_file import load_model

    path = resolve(args.model)
    model = load_model(path)
    if args.json:
        report = {
            "path": str(path),
            "sha256": model.sha256,
            "parameters": parameter_counts(model.spec),
            "spec": dataclasses.asdict(model.spec),
        }
        print(json.dumps(report, indent=2))
    else:
        print(f"{path}\nsha256 {model.sha256}\n")
        print("\n".join(table(model.spec)))
    return 0


def parameter_counts(spec: ModelSpec) -> dict[str, int]:
    """Trained numbers of each stage, all of its ensemble members together, and of the policy."""
    counts = {
        name: spec.stages[name].members
        * sum(math.prod(shape) for shape in spec.network_shapes(name).values())
        for name in STAGES
    }
    if spec.policy is not None:
        counts["policy"] = sum(math.prod(shape) for shape in spec.policy_shapes().values())
    return counts


def table(spec: ModelSpec) -> Iterator[str]:
    """Lines for a person to read."""
    environment = spec.environment
    period = environment.control_period_s
    yield from _rows(
        {
            "environment": environment.id or "not named",
            "control period": f"{period * 1e3:g} ms ({1 / period:g} Hz)",
            "state (S), action (A)": f"{spec.state_size}, {spec.action_size}",
            "action bounds": _bounds(environment.action_low, environment.action_high),
            "observation keys": ", ".join(environment.observation_keys or ()) or "plain array",
            "horizon (F), history (H)": f"{spec.horizon}, {spec.history}",
            "discount": f"{spec.discount:g}",
            "termination penalty": f"{spec.termination_penalty:g}",
            "recommended": _flat(spec.recommended) or "nothing",
        }
    )
    counts = parameter_counts(spec)
    yield ""
    yield f"{'stage':10}  {'parameters':>10}  layers x width  heads x size    mlp  patch  sampler"
    for name in STAGES:
        yield _stage_row(name, spec.stages[name], counts[name])
    if spec.policy is not None:
        yield f"{'policy':10}  {counts['policy']:>10,}  {spec.policy.layers:>6} x {spec.policy.width}"
    yield f"{'all':10}  {sum(counts.values()):>10,}"
    yield ""
    yield "provenance"
    yield from _rows({f"  {key}": _flat(value) for key, value in spec.provenance.items()})


def _stage_row(name: str, stage: StageSpec, parameters: int) -> str:
    sampler = "one evaluation"
    if stage.sampler is not None:
        sampler = f"{stage.sampler.rule}, {stage.sampler.steps} steps"
    members = f" ({stage.members} members)" if stage.members > 1 else ""
    return (
        f"{name:10}  {parameters:>10,}  {stage.layers:>6} x {stage.width:<5}  "
        f"{stage.heads:>5} x {stage.head_size:<4}  {stage.mlp:>5}  {stage.patch:>5}  {sampler}{members}"
    )


def _bounds(low: tuple[float | None, ...], high: tuple[float | None, ...]) -> str:
    pairs = [
        f"[{'-inf' if a is None else f'{a:g}'}, {'inf' if b is None else f'{b:g}'}]"
        for a, b in zip(low, high, strict=True)
    ]
    return pairs[0] if len(set(pairs)) == 1 else " ".join(pairs)


def _rows(values: dict[str, str]) -> Iterator[str]:
    width = max((len(key) for key in values), default=0)
    for key, value in values.items():
        yield f"{key:{width}}  {value}"


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(entry)}" for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_flat(entry) for entry in value)
    return str(value)
