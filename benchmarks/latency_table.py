"""The README's latency table from the grid's results.

python -m benchmarks.latency_table benchmarks/results/latency/grid.json [--samples 64] [--steps 1+1]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def table(
    report: dict[str, Any], *, samples: int, steps: tuple[int, int], patch: int
) -> Iterator[str]:
    """Markdown: a row per variant, a column per preset and thread count, medians in ms and, for the
    engine, the share of the measured peak of its precision."""
    rows = [
        row
        for row in report["rows"]
        if row["num_samples"] == samples
        and tuple(row["steps"]) == steps
        and row["patch"] == patch
        and row["width"] is None
        and row["horizon"] == 32
    ]
    columns = list(dict.fromkeys((row["preset"], row["threads"]) for row in rows))
    titles = [f"{preset}, {threads} thread{'s' * (threads > 1)}" for preset, threads in columns]
    yield f"| ms | {' | '.join(titles)} |"
    yield "|---" * (len(columns) + 1) + "|"
    found = {(row["variant"], row["preset"], row["threads"]): row for row in rows}
    for variant in dict.fromkeys(row["variant"] for row in rows):
        cells = [_cell(found.get((variant, *column))) for column in columns]
        name = variant.replace("cpu ", "**dmpc_fast** ")
        yield f"| {name} | {' | '.join(cells)} |"


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    if "error" in row:
        return "failed"
    text = f"{1e3 * row['median_s']:.3g}"
    if row["variant"].startswith("cpu ") and row["peak_fraction"] is not None:
        text = f"**{text}** ({100 * row['peak_fraction']:.0f} %)"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--steps", default="1+1")
    parser.add_argument("--patch", type=int, default=1)
    args = parser.parse_args()
    proposal, _, dynamics = args.steps.partition("+")
    report = json.loads(args.report.read_text(encoding="utf-8"))
    options = {"samples": args.samples, "patch": args.patch}
    for line in table(report, steps=(int(proposal), int(dynamics)), **options):
        print(line)


if __name__ == "__main__":
    main()
