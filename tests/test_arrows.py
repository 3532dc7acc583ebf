"""The arrows between the C++ rooms (docs/architecture.md). The Python ones are import-linter's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[1] / "csrc"
#: What each room may include besides the standard library and system headers.
MAY_INCLUDE = {
    "include": {"include"},
    "cpu": {"cpu"},
    "core": {"core", "cpu", "include"},
    "cuda": {"cuda"},
    "bindings": {"bindings", "core", "cuda", "include"},
    "tests": {"tests", "core", "cpu", "cuda", "include"},
    "examples": {"include"},
    "bench": {"core", "cpu", "include"},
}
FOREIGN = {
    "pybind11": {"bindings"},
    "Python.h": {"bindings"},
    "numpy": {"bindings"},
    "torch": set(),
    "ATen": set(),
    "c10": set(),
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
SUFFIXES = {".hpp", ".cpp", ".inl", ".h", ".cuh", ".cu"}


def sources(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.suffix in SUFFIXES)


def included_file(source: Path, name: str, root: Path) -> Path | None:
    """The file of ours that an include names, found as the compiler finds it, or None."""
    for folder in (source.parent, root, root / "include"):
        path = (folder / name).resolve()
        if path.is_file() and path.is_relative_to(root):
            return path
    return None


def violations(source: Path, root: Path) -> list[str]:
    """What is wrong with the includes of one file, a sentence each."""

    def room(path: Path) -> str:
        return path.relative_to(root).parts[0]

    found, own = [], room(source)
    for kind, name in INCLUDE.findall(source.read_text(encoding="utf-8")):
        target = included_file(source, name, root)
        if target is not None:
            if room(target) not in MAY_INCLUDE[own]:
                found.append(f"{own} must not include {room(target)}: {name}")
        elif kind == '"':
            found.append(f"no file of this tree is called {name}")
        elif own not in FOREIGN.get(name.partition("/")[0], {own}):
            found.append(f"{own} must not include {name}")
    return found


def test_every_room_is_known() -> None:
    assert {path.relative_to(CSRC).parts[0] for path in sources(CSRC)} <= MAY_INCLUDE.keys()


@pytest.mark.parametrize("source", sources(CSRC), ids=lambda path: str(path.relative_to(CSRC)))
def test_includes_follow_the_arrows(source: Path) -> None:
    assert violations(source, CSRC) == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('#include "core/engine.hpp"', "cpu must not include core: core/engine.hpp"),
        ('#include "../core/engine.hpp"', "cpu must not include core: ../core/engine.hpp"),
        ("#  include <core/engine.hpp>", "cpu must not include core: core/engine.hpp"),
        ("#include <pybind11/numpy.h>", "cpu must not include pybind11/numpy.h"),
        ("#include <torch/torch.h>", "cpu must not include torch/torch.h"),
        ('#include "absent.hpp"', "no file of this tree is called absent.hpp"),
    ],
)
def test_a_wrong_include_is_seen(tmp_path: Path, line: str, problem: str) -> None:
    for name in ("core/engine.hpp", "cpu/attention.inl"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    source = tmp_path / "cpu" / "attention.inl"
    source.write_text(f'#include <cmath>\n#include "attention.inl"\n{line}\n', encoding="utf-8")
    assert violations(source, tmp_path) == [problem]
