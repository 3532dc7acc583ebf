"""Markdown table of evaluation results: python -m benchmarks.score_table FILE.json ... > TABLE.md

Reads what `dmpc-fast evaluate --json` wrote; rows stand in the order of the files.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

HEADER = (
    "| model trained on | behaviour | N | chunk | episodes | score, mean ± s.e. | median | "
    "x behaviour | command |\n|---|---|---|---|---|---|---|---|---|"
)


def command(settings: dict[str, Any]) -> str:
    """The command that makes a result again."""
    words = ["dmpc-fast evaluate", settings["model"], "--env", settings["environment"]]
    for name in ("episodes", "seed", "num_samples", "action_chunk", "num_elites"):
        if settings.get(name) is not None:
            words += [f"--{name.replace('_', '-')}", str(settings[name])]
    if settings["dtype"] != "float32":
        words += ["--dtype", settings["dtype"]]
    return " ".join(words)


def row(path: Path, behaviour: dict[str, float]) -> str:
    """One line of the table. behaviour: mean score of the data, per dataset id."""
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    settings, score = report["settings"], report["summary"]["score"]
    recommended = settings["recommended"]
    samples = settings["num_samples"] or recommended.get("num_samples", 64)
    chunk = settings["action_chunk"] or recommended.get("action_chunk", 1)
    digits = 1 if score["standard_error"] >= 0.1 else 2
    data = ", ".join(settings["datasets"] or ["?"])
    mean = behaviour.get(data)
    return (
        f"| {data} | {'' if mean is None else mean} | {samples} | {chunk} | "
        f"{report['summary']['episodes']} | "
        f"{score['mean']:.{digits}f} ± {score['standard_error']:.{digits}f} | "
        f"{score['quantiles']['0.5']:.{digits}f} | "
        f"{'' if mean is None else format(score['mean'] / mean, '.2f')} | `{command(settings)}` |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument(
        "--behaviour",
        action="append",
        default=[],
        metavar="DATASET=SCORE",
        help="mean normalised score of a dataset's own episodes; repeatable",
    )
    args = parser.parse_args()
    behaviour = {}
    for item in args.behaviour:
        name, _, score = item.partition("=")
        behaviour[name] = float(score)
    print(HEADER)
    for path in args.files:
        print(row(path, behaviour))


if __name__ == "__main__":
    main()
