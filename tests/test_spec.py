"""Descriptions: JSON round trips, limits, hostile texts, and field names shared with C++."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_models import random_spec

from dmpc_fast import _engine, strict_json
from dmpc_fast.models.network import TrajectoryTransformer
from dmpc_fast.models.policy import PolicyNetwork
from dmpc_fast.spec import (
    FORMAT_VERSION,
    PRESETS,
    STAGES,
    EnvironmentSpec,
    ModelFileError,
    ModelSpec,
    PolicySpec,
    SamplerSpec,
    StageSpec,
    preset_stages,
)

BASE = random_spec(
    history=2, context=1, members=2, recommended={"num_samples": 16}, policy=PolicySpec(2, 9)
)


def data_of(spec: ModelSpec = BASE) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(spec.to_json())
    return data


def set_at(data: Any, path: str, value: Any) -> None:
    *way, last = path.split(".")
    for key in way:
        data = data[key]
    data[last] = value


@pytest.mark.parametrize("cls", [ModelSpec, StageSpec, SamplerSpec, EnvironmentSpec, PolicySpec])
def test_python_and_cpp_have_the_same_fields(cls: type) -> None:
    names = [field.name for field in dataclasses.fields(cls)]
    assert sorted(names) == sorted(_engine.spec_fields()[cls.__name__])
    assert len(_engine.spec_fields()) == 5


@pytest.mark.parametrize("preset", PRESETS)
def test_json_round_trip(preset: str) -> None:
    spec = dataclasses.replace(
        random_spec(
            horizon=32,
            recommended={"num_samples": 64, "action_chunk": 4, "num_elites": 8, "dtype": "int8"},
        ),
        stages=preset_stages(preset, patch=4),
        provenance={"datasets": ["a/b-v0"], "note": 'é\u2028"\\', "seed": 2**64 - 1, "x": [None]},
    )
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_a_model_without_policy_lacks_the_key() -> None:
    spec = random_spec()
    assert "policy" not in json.loads(spec.to_json())
    assert not any(name.startswith("policy.") for name in spec.tensor_shapes())
    shapes = BASE.policy_shapes()
    network = {
        name: tuple(tensor.shape) for name, tensor in PolicyNetwork(BASE).state_dict().items()
    }
    assert shapes == network


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"patch": 3, "history_tokens": True, "positions": "fourier"},
        {"history": 3, "context": 4},
    ],
)
def test_tensor_shapes_are_those_of_the_network(stage: str, sizes: dict[str, Any]) -> None:
    spec = random_spec(**sizes)
    network = TrajectoryTransformer(spec, stage)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes == spec.network_shapes(stage)


def test_all_tensors_are_networks_and_statistics() -> None:
    names = BASE.tensor_shapes()
    assert sum(name.startswith("normalizer.") for name in names) == 8
    for prefix in ("proposal.0.", "dynamics.0.", "objective.0.", "objective.1."):
        own = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        assert own == set(BASE.network_shapes(prefix.partition(".")[0]))


WRONG_VALUES: list[tuple[str, Any, str]] = [
    ("state_size", 0, "state_size must be an integer from 1"),
    ("state_size", 65537, "state_size"),
    ("state_size", 5.0, "state_size"),
    ("state_size", True, "state_size"),
    ("state_size", "5", "state_size"),
    ("state_size", None, "state_size"),
    ("state_size", [5], "state_size"),
    ("state_size", 10**60, "state_size"),
    ("action_size", 2, "action_low must have 2 entries"),
    ("horizon", 4097, "horizon"),
    ("history", 0, "history"),
    ("context", -1, "context"),
    ("discount", 0, "discount"),
    ("discount", 1.5, "discount"),
    ("discount", "0.9", "discount"),
    ("discount", False, "discount"),
    ("termination_penalty", -1.0, "termination_penalty"),
    ("format_version", 2, "format_version 2 is not supported.*reads version 1"),
    ("format_version", 1.0, "format_version"),
    ("format_version", True, "format_version"),
    ("format_version", "1", "format_version"),
    ("stages", [], "stages must be an object"),
    ("stages.policy", {}, "stages has the unknown key 'policy'"),
    ("stages.proposal", None, "stages.proposal must be an object"),
    ("stages.proposal.width", -3, "stages.proposal: width"),
    ("stages.proposal.width", {}, "stages.proposal: width"),
    ("stages.proposal.heads", 65536, "heads x head_size"),
    ("stages.proposal.patch", 4, "not a multiple of patch 4"),
    ("stages.proposal.positions", "rotary", "positions"),
    ("stages.proposal.positions", ["learned"], "positions"),
    ("stages.proposal.history_tokens", 1, "history_tokens"),
    ("stages.proposal.members", 2, "members must be 1"),
    ("stages.objective.members", 17, "members"),
    ("stages.objective.sampler", {"rule": "ddim", "angles": [1.0]}, "a sampler belongs to"),
    ("stages.dynamics.sampler", None, "a sampler belongs to"),
    ("stages.dynamics.sampler.rule", "euler", "sampler.rule"),
    ("stages.dynamics.sampler.rule", {}, "sampler.rule"),
    ("stages.dynamics.sampler.angles", 1.0, "sampler.angles must be a list"),
    ("stages.dynamics.sampler.angles", [], "1 to 255 angles"),
    ("stages.dynamics.sampler.angles", [0.5, "0.2"], "sampler.angles"),
    ("stages.dynamics.sampler.angles", [0.2, 0.5], "fall strictly"),
    ("stages.dynamics.sampler.angles", [1.571], "sampler.angles"),
    ("environment.id", 3, "environment.id"),
    ("environment.id", "x" * 65537, "environment.id"),
    ("environment.id", "é" * 32769, "environment.id"),
    ("environment.observation_keys", "abc", "observation_keys must be a list"),
    ("environment.observation_keys", [["a"]], "observation_keys must be texts"),
    ("environment.action_low", None, "action_low must be a list"),
    ("environment.action_low", ["-1", None, None], "action_low"),
    ("environment.action_low", [True, None, None], "action_low"),
    ("environment.action_low", [0.8, None, None], "low < high"),
    ("environment.action_low", [-1e39, None, None], "action_low"),
    ("environment.action_low", [None], "one length"),
    ("environment.control_period_s", 0, "control_period_s must be positive"),
    ("environment.control_period_s", 1e7, "control_period_s"),
    ("environment.control_period_s", None, "control_period_s"),
    ("environment.extra", 1, "environment has the unknown key 'extra'"),
    ("policy", None, "policy must be an object"),
    ("policy", [2, 9], "policy must be an object"),
    ("policy.layers", 0, "policy.layers must be an integer from 1"),
    ("policy.layers", 129, "policy.layers"),
    ("policy.width", 65537, "policy.width"),
    ("policy.width", "9", "policy.width"),
    ("policy.activation", "relu", "policy has the unknown key 'activation'"),
    ("recommended", [], "recommended must be an object"),
    ("recommended.num_samples", 0, "recommended.num_samples"),
    ("recommended.num_samples", 65537, "recommended.num_samples"),
    ("recommended.num_samples", 8.0, "recommended.num_samples"),
    ("recommended.action_chunk", 7, "recommended.action_chunk must be an integer from 1 to 6"),
    ("recommended.num_elites", 0, "recommended.num_elites must be an integer from 1 to 256"),
    ("recommended.num_elites", 257, "recommended.num_elites"),
    ("recommended.dtype", "float64", "recommended.dtype"),
    ("recommended.dtype", ["bf16"], "recommended.dtype"),
    ("recommended.colour", 1, "recommended has the unknown key 'colour'"),
    ("provenance", "me", "provenance must be an object"),
    ("surprise", 1, "model has the unknown key 'surprise'"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), WRONG_VALUES)
def test_a_wrong_value_is_named(path: str, value: Any, message: str) -> None:
    data = data_of()
    set_at(data, path, value)
    with pytest.raises(ModelFileError, match=message):
        ModelSpec.from_json(json.dumps(data))


@pytest.mark.parametrize(
    "path", ["horizon", "stages.dynamics", "stages.proposal.mlp", "environment.id"]
)
def test_a_missing_key_is_named(path: str) -> None:
    data = data_of()
    *way, last = path.split(".")
    inner = data
    for key in way:
        inner = inner[key]
    del inner[last]
    with pytest.raises(ModelFileError, match=last):
        ModelSpec.from_json(json.dumps(data))


def test_the_condition_is_bounded() -> None:
    with pytest.raises(ModelFileError, match="condition size"):
        dataclasses.replace(BASE, state_size=65536, history=1024)


HOSTILE_TEXTS: list[Callable[[str], str]] = [
    lambda text: "[" * 100_000,
    lambda text: '{"a":' * 100_000,
    lambda text: text.replace('"discount": 0.97', '"discount": NaN'),
    lambda text: text.replace('"discount": 0.97', '"discount": Infinity'),
    lambda text: text.replace('"discount": 0.97', '"discount": 1e999'),
    lambda text: text.replace('"discount": 0.97', '"discount": 0.97, "discount": 0.97'),
    lambda text: text.replace('"discount": 0.97', f'"discount": 0.{"9" * 70}'),
    lambda text: text.replace('"horizon": 6', f'"horizon": {"9" * 5000}'),
    lambda text: text.replace('"provenance": {', '"provenance": {"x": "\\ud800"'),
    lambda text: text.replace('"provenance": {', '"provenance": {"\\udfff": 1'),
    lambda text: text.replace('"provenance": {', '"provenance": {"x": ' + "[" * 40 + "]" * 40),
    lambda text: text[:-1],
    lambda text: text + "}",
    lambda text: text.encode("utf-16-le").decode("latin1"),
    lambda text: text + " " * (1 << 20),
    lambda text: "",
    lambda text: "null",
    lambda text: "[]",
    lambda text: '"text"',
    lambda text: "1",
]


@pytest.mark.parametrize("change", HOSTILE_TEXTS)
def test_a_hostile_text_is_refused(change: Callable[[str], str]) -> None:
    text = change(BASE.to_json())
    assert text != BASE.to_json()
    with pytest.raises(ModelFileError) as error:
        ModelSpec.from_json(text)
    assert len(str(error.value)) < 2000


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def paths(data: Any, prefix: str = "") -> list[str]:
    found = []
    for key, value in data.items():
        found.append(prefix + key)
        if isinstance(value, dict):
            found += paths(value, f"{prefix}{key}.")
    return found


@given(path=st.sampled_from(sorted(paths(data_of()))), value=JSON_VALUES)
def test_any_value_anywhere_is_taken_or_refused(path: str, value: Any) -> None:
    data = data_of()
    set_at(data, path, value)
    try:
        spec = ModelSpec.from_json(json.dumps(data))
    except ModelFileError:
        return
    assert ModelSpec.from_json(spec.to_json()) == spec


@given(JSON_VALUES)
def test_strict_json_reads_what_is_written(value: Any) -> None:
    text = json.dumps(value)
    try:
        json.dumps(value, allow_nan=False)  # a key or a text may well be called NaN
    except ValueError:
        with pytest.raises(ValueError, match="not a finite number"):
            strict_json.parse(text)
    else:
        assert strict_json.parse(text) == value


def test_uniform_samplers_start_at_pure_noise() -> None:
    assert SamplerSpec.uniform(4).angles == pytest.approx(
        np.array([1.0, 0.75, 0.5, 0.25]) * math.pi / 2
    )
    assert SamplerSpec.uniform(4).steps == 4
    with pytest.raises(ModelFileError, match="sampler steps"):
        SamplerSpec.uniform(0)


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(ValueError, match="preset must be one of .* got 'huge'"):
        preset_stages("huge")


def test_this_package_reads_its_own_version() -> None:
    assert data_of()["format_version"] == FORMAT_VERSION


def test_a_stage_may_differ_from_its_preset() -> None:
    stages = preset_stages("tiny", patch=4, dynamics={"patch": 2, "mlp": 96})
    assert (stages["proposal"].patch, stages["objective"].patch) == (4, 4)
    assert (stages["dynamics"].patch, stages["dynamics"].mlp) == (2, 96)
    assert stages["proposal"].mlp == stages["objective"].mlp != 96
