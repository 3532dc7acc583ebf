"""The README's latency table from the grid's results.

python -m benchmarks.latency_table benchmarks/results/latency/grid.json [--samples 64] [--steps 1+1]
python -m benchmarks.latency_table benchmarks/results/latency/grid.json --cells
python -m benchmarks.latency_table benchmarks/results/latency/grid.json --ratios

`--cells`: a row for every cell of the grid, the engine and how many times its time the rivals take.
`--ratios`: those over all cells of a preset and thread count.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DTYPES = ("float32", "bf16", "int8")


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
    found = _by_cell(report)
    dtypes = [d for d in DTYPES if any(f"cpu {d}" in rows for rows in found.values())]
    titles = [f"ours {dtype}" for dtype in dtypes] + [f"OpenVINO / ours, {d}" for d in dtypes]
    yield f"| cell | {' | '.join(titles)} | fastest rival / our fastest |"
    yield "|---" * (len(titles) + 2) + "|"
    for name, rows in found.items():
        texts = [_ms(rows.get(f"cpu {dtype}")) for dtype in dtypes]
        texts += [_times(_same_precision(rows, dtype)) for dtype in dtypes]
        best = _fastest(rows)
        texts.append("" if best is None else f"{best[0]:.2f} ({best[1]})")
        yield f"| {name} | {' | '.join(texts)} |"


def ratios(report: dict[str, Any]) -> Iterator[str]:
    """Markdown: a row per preset, patch and thread count: the columns of `cells` that are ratios, as
    geometric mean and range over its cells."""
    groups: dict[str, list[dict[str, dict[str, Any]]]] = {}
    for rows in _by_cell(report).values():
        row = next(iter(rows.values()))
        patch = "" if row["patch"] == 1 else f", patch {row['patch']}"
        threads = f"{row['threads']} thread{'s' * (row['threads'] > 1)}"
        groups.setdefault(f"{row['preset']}{patch}, {threads}", []).append(rows)
    titles = [f"OpenVINO / ours, {dtype}" for dtype in DTYPES]
    yield f"| cells of | count | {' | '.join(titles)} | fastest rival / our fastest |"
    yield "|---" * (len(titles) + 3) + "|"
    for name, group in groups.items():
        columns = [[_same_precision(rows, dtype) for rows in group] for dtype in DTYPES]
        columns.append([None if best is None else best[0] for best in map(_fastest, group)])
        yield f"| {name} | {len(group)} | {' | '.join(map(_range, columns))} |"


def _by_cell(report: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Rows that have a time, by cell and variant, the cells from small to large."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in sorted(report["rows"], key=_place):
        if "median_s" in row:
            found.setdefault(row["name"], {})[row["variant"]] = row
    return found


def _same_precision(rows: dict[str, dict[str, Any]], dtype: str) -> float | None:
    theirs, ours = rows.get(f"OpenVINO {dtype}"), rows.get(f"cpu {dtype}")
    return None if theirs is None or ours is None else theirs["median_s"] / ours["median_s"]


def _fastest(rows: dict[str, dict[str, Any]]) -> tuple[float, str] | None:
    """How many times our fastest precision's time the fastest rival takes, and which that is."""
    ours = [row["median_s"] for name, row in rows.items() if name.startswith("cpu ")]
    theirs = [(row["median_s"], name) for name, row in rows.items() if not name.startswith("cpu ")]
    if not ours or not theirs:
        return None
    seconds, name = min(theirs)
    return seconds / min(ours), name


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _range(ratios: list[float | None]) -> str:
    known = [ratio for ratio in ratios if ratio is not None]
    if not known:
        return ""
    return f"{statistics.geometric_mean(known):.2f} ({min(known):.2f} to {max(known):.2f})"


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    presets = ("tiny", "small", "paper")
    return (
        presets.index(row["preset"]), row["patch"], row["threads"], sum(row["steps"]),
        row["num_samples"],
    )  # fmt: skip


def _ms(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    ms = 1e3 * row["median_s"]
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--steps", default="1+1")
    parser.add_argument("--patch", type=int, default=1)
    parser.add_argument("--cells", action="store_true", help="a row for every cell")
    parser.add_argument("--ratios", action="store_true", help="a row for every preset")
    args = parser.parse_args()
    proposal, _, dynamics = args.steps.partition("+")
    report = json.loads(args.report.read_text(encoding="utf-8"))
    if args.cells or args.ratios:
        print(*(cells if args.cells else ratios)(report), sep="\n")
        return
    options = {"samples": args.samples, "patch": args.patch}
    for line in table(report, steps=(int(proposal), int(dynamics)), **options):
        print(line)


if __name__ == "__main__":
    main()
