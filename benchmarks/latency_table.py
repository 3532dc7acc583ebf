"""The README's latency table from the grid's results.

python -m benchmarks.latency_table benchmarks/results/latency/grid.json [--samples 64] [--steps 1+1]
python -m benchmarks.latency_table benchmarks/results/latency/grid.json --cells

`--cells`: a row for every cell of the grid, the engine and how many times its time the rivals take.
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


def cells(report: dict[str, Any]) -> Iterator[str]:
    """Markdown: a row per cell. Medians of the engine in ms by precision; what OpenVINO takes at the
    same precision, and the fastest rival of any precision (with its name), over the engine's."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in report["rows"]:
        found.setdefault(row["name"], {})[row["variant"]] = row
    dtypes = [
        d for d in ("float32", "bf16", "int8") if any(f"cpu {d}" in c for c in found.values())
    ]
    titles = [f"ours {dtype}" for dtype in dtypes] + [f"OpenVINO / ours, {d}" for d in dtypes]
    yield f"| cell | {' | '.join(titles)} | fastest rival / our fastest |"
    yield "|---" * (len(titles) + 2) + "|"
    order = sorted(found.items(), key=lambda item: _place(next(iter(item[1].values()))))
    for name, rows in order:
        times = {v: row["median_s"] for v, row in rows.items() if "median_s" in row}
        ours = {v: t for v, t in times.items() if v.startswith("cpu ")}
        theirs = {v: t for v, t in times.items() if v not in ours}
        texts = [_ms(ours.get(f"cpu {dtype}")) for dtype in dtypes]
        for dtype in dtypes:
            pair = theirs.get(f"OpenVINO {dtype}"), ours.get(f"cpu {dtype}")
            texts.append("" if None in pair else f"{pair[0] / pair[1]:.2f}")  # type: ignore[operator]
        if theirs:
            best = min(theirs, key=lambda variant: theirs[variant])
            texts.append(f"{theirs[best] / min(ours.values()):.2f} ({best})")
        else:
            texts.append("")
        yield f"| {name} | {' | '.join(texts)} |"


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    presets = ("tiny", "small", "paper")
    return (
        presets.index(row["preset"]), row["patch"], row["threads"], sum(row["steps"]),
        row["num_samples"],
    )  # fmt: skip


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--steps", default="1+1")
    parser.add_argument("--patch", type=int, default=1)
    parser.add_argument("--cells", action="store_true", help="a row for every cell")
    args = parser.parse_args()
    proposal, _, dynamics = args.steps.partition("+")
    report = json.loads(args.report.read_text(encoding="utf-8"))
    if args.cells:
        print(*cells(report), sep="\n")
        return
    options = {"samples": args.samples, "patch": args.patch}
    for line in table(report, steps=(int(proposal), int(dynamics)), **options):
        print(line)


if __name__ == "__main__":
    main()
