"""`dmpc-fast doctor`: what this machine can do, and why it cannot do the rest."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Distributions of each extra of this package.
EXTRAS = {
    "sim": ("gymnasium", "mujoco", "minari"),
    "train": ("torch", "tensorboard", "tqdm"),
    "gpu": ("triton",),
}
#: Instruction sets that decide how fast a plan is, by their names in the kernel's list of flags.
CPU_FLAGS = (
    "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "amx_bf16",
    "amx_int8", "asimd", "sve", "bf16",
)  # fmt: skip


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "doctor", help="show which backends and extras this machine has, and why not the others"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def run(args: argparse.Namespace) -> int:
    report = examine()
    print(json.dumps(report, indent=2) if args.json else "\n".join(table(report)))
    return 0


def examine() -> dict[str, Any]:
    """Everything `doctor` knows, ready for JSON. Imports no extra; a backend may import its own."""
    from dmpc_fast import __version__
    from dmpc_fast.backends.registry import available

    return {
        "package": {"version": __version__, "path": str(Path(__file__).parents[1])},
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "system": {"platform": platform.platform(), "machine": platform.machine()},
        "cpu": cpu(),
        "backends": {name: reason or "available" for name, reason in available().items()},
        "extras": {
            extra: {name: version(name) for name in names} for extra, names in EXTRAS.items()
        },
    }


def cpu(description: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """Name, usable cores and instruction sets; name and sets are unknown (None) outside Linux."""
    fields = _first_processor(description)
    flags = fields.get("flags", fields.get("Features"))
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "name": fields.get("model name"),
        "cores": os.cpu_count(),
        "usable_cores": usable,
        "instruction_sets": None if flags is None else [f for f in CPU_FLAGS if f in flags.split()],
    }


def _first_processor(description: Path) -> dict[str, str]:
    if not description.exists():
        return {}
    block = description.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def version(distribution: str) -> str | None:
    """Installed version, or None. A module without its metadata counts as installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown" if importlib.util.find_spec(distribution) else None


def table(report: dict[str, Any]) -> Iterator[str]:
    """Lines for a person to read."""
    processor = report["cpu"]
    sets = processor["instruction_sets"]
    yield f"dmpc-fast  {report['package']['version']}  {report['package']['path']}"
    yield f"python     {report['python']['version']}  {report['python']['executable']}"
    yield f"system     {report['system']['platform']}"
    yield (
        f"cpu        {processor['name'] or report['system']['machine']}, "
        f"{processor['usable_cores']} of {processor['cores']} cores usable"
    )
    yield f"           {'instruction sets unknown' if sets is None else ' '.join(sets) or 'none known'}"
    yield ""
    yield "backends"
    for name, state in report["backends"].items():
        yield f"  {name:8} {state}"
    yield ""
    yield "extras"
    for extra, packages in report["extras"].items():
        missing = [name for name, installed in packages.items() if installed is None]
        state = (
            f'lacks {", ".join(missing)}: pip install "dmpc-fast[{extra}]"'
            if missing
            else ", ".join(f"{name} {installed}" for name, installed in packages.items())
        )
        yield f"  {extra:8} {state}"
