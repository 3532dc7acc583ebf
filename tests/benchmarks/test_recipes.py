"""Recipes say what the command line understands."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from benchmarks.recipes import RECIPES
from dmpc_fast.cli.main import build_parser


@pytest.mark.parametrize("name", RECIPES)
def test_every_command_of_a_recipe_is_understood(name: str) -> None:
    recipe = RECIPES[name]
    robot, _, data = name.removesuffix("-one-token").removesuffix("-two-tokens").partition("-")
    assert recipe.environment.lower() == f"{robot}-v5"
    sets = {"medium-expert": ["medium", "expert"]}.get(data, [data])
    assert recipe.datasets == tuple(f"dmpc/{robot}/{kind}-v0" for kind in sets)
    steps = recipe.commands(name, Path("runs"), 50, 10_000)
    parsed = [build_parser().parse_args(step.arguments) for step in steps]
    commands = [args.command for args in parsed]
    assert commands == ["train", *(["distill"] if recipe.student else []), "evaluate"]
    # Each command reads what the one before wrote.
    for before, after in itertools.pairwise(parsed):
        assert str(before.out) == after.model
    train = parsed[0]
    if name.endswith("-one-token"):
        assert (train.horizon or 32) == train.patch
    if name.endswith("-two-tokens"):
        assert (train.horizon or 32) == 2 * train.patch
