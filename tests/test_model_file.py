"""Model files: round trips, atomic writing, and hostile files against both readers.

Python and C++ must agree on every file: both load it to the same content, or both raise
`ModelFileError` and nothing else.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_models import random_spec, random_tensors

from dmpc_fast import _engine
from dmpc_fast.model_file import (
    MAX_FILE_HEADER_BYTES,
    Model,
    load_model,
    read_spec,
    save_model,
    write_atomically,
)
from dmpc_fast.spec import ModelFileError, ModelSpec, PolicySpec

SPEC = dataclasses.replace(
    random_spec(
        state=3, action=2, horizon=4, history=2, context=1, members=2, layers=1, width=5, heads=3,
        head_size=2, mlp=7, recommended={"num_samples": 16, "dtype": "bf16"},
        policy=PolicySpec(2, 6),
    ),
    provenance={"note": "é\u2028\"", "seed": 2**64 - 1},
)  # fmt: skip
SCALE = "normalizer.state.scale"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A valid file, its networks in half precision."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    tensors = random_tensors(np.random.default_rng(), SPEC)
    save_model(path, SPEC, tensors, storage="float16")
    return path.read_bytes()


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(header: bytes | dict[str, Any], data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def refusal(read: Callable[[], object]) -> str | None:
    """The message of `read`'s ModelFileError; None where it loads. Other errors go through."""
    try:
        read()
    except ModelFileError as error:
        return str(error)
    return None


def load_with_both(path: Path, content: bytes) -> Model | None:
    """The model in a file of this content, or None where both readers refuse it."""
    path.write_bytes(content)
    loaded: dict[str, Any] = {}
    python = refusal(lambda: loaded.update(python=load_model(path)))
    native = refusal(lambda: loaded.update(native=_engine.read_model(path)))
    in_memory = refusal(lambda: _engine.validate_model(content))
    assert (python is None) == (native is None) == (in_memory is None), (python, native, in_memory)
    if python is not None:
        assert python.startswith(f"{path}: ") and native.startswith(f"{path}: ")
        assert len(python) < 3000 and len(native) < 3000
        return None
    model: Model = loaded["python"]
    assert ModelSpec.from_json(loaded["native"]["spec_json"]) == model.spec
    assert loaded["native"]["tensors"].keys() == model.tensors.keys()
    for name, tensor in loaded["native"]["tensors"].items():
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor, model.tensors[name])
    return model


@pytest.mark.parametrize(
    "sizes",
    [{}, {"history": 3, "context": 2, "members": 3}, {"patch": 2, "history_tokens": True}],
)
def test_a_model_survives_its_file(
    rng: np.random.Generator, path: Path, sizes: dict[str, Any]
) -> None:
    spec = random_spec(**sizes)
    tensors = random_tensors(rng, spec)
    save_model(path, spec, tensors)
    model = load_with_both(path, path.read_bytes())
    assert model is not None
    assert model.spec == read_spec(path) == spec
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(model.tensors[name], tensor)
        assert model.tensors[name].dtype == np.float32
    np.testing.assert_array_equal(model.normalizer.state.scale, tensors[SCALE])
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_half_precision_rounds_the_networks_alone(rng: np.random.Generator, path: Path) -> None:
    tensors = random_tensors(rng, SPEC)
    tensors["dynamics.0.positions"].ravel()[:3] = [6e-8, -65504.0, 3e-5]  # subnormal, largest
    save_model(path, SPEC, tensors, storage="float16")
    model = load_with_both(path, path.read_bytes())
    assert model is not None
    for name, tensor in tensors.items():
        exact = name.startswith("normalizer.")
        expected = tensor if exact else tensor.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(model.tensors[name], expected)


def test_float64_tensors_are_rounded(rng: np.random.Generator, path: Path) -> None:
    tensors = {name: t.astype(np.float64) / 3 for name, t in random_tensors(rng, SPEC).items()}
    save_model(path, SPEC, tensors)
    for name, tensor in load_model(path).tensors.items():
        np.testing.assert_array_equal(tensor, tensors[name].astype(np.float32))


WRONG_TENSORS: list[tuple[str, str, Callable[[np.ndarray], Any]]] = [
    ("dynamics.0.positions", "NaN or infinity", lambda t: np.where(t == t[0, 0], np.nan, t)),
    ("dynamics.0.positions", "NaN or infinity", lambda t: np.where(t == t[0, 0], -np.inf, t)),
    ("dynamics.0.positions", "does not fit float32", lambda t: np.full(t.shape, 1e39)),
    ("dynamics.0.positions", "of shape", lambda t: t.T),
    ("dynamics.0.positions", "float array", lambda t: t.astype(np.int32)),
    ("dynamics.0.positions", "float array", lambda t: "weights"),
    (SCALE, "must be positive", lambda t: 0 * t),
    (SCALE, "must be positive", lambda t: -t),
]  # fmt: skip


@pytest.mark.parametrize(("name", "message", "change"), WRONG_TENSORS)
def test_what_could_not_be_loaded_is_not_saved(
    rng: np.random.Generator,
    path: Path,
    name: str,
    message: str,
    change: Callable[[np.ndarray], Any],
) -> None:
    tensors = random_tensors(rng, SPEC)
    with pytest.raises(ModelFileError, match=f"{re.escape(name)}.*{message}"):
        save_model(path, SPEC, {**tensors, name: change(tensors[name])})
    assert list(path.parent.iterdir()) == []


def test_missing_and_unknown_tensors_are_not_saved(rng: np.random.Generator, path: Path) -> None:
    tensors = random_tensors(rng, SPEC)
    with pytest.raises(ModelFileError, match=r"'policy\.0\.x' is unknown"):
        save_model(path, SPEC, {**tensors, "policy.0.x": np.zeros(1, np.float32)})
    del tensors[SCALE]
    with pytest.raises(ModelFileError, match=f"'{SCALE}' is missing"):
        save_model(path, SPEC, tensors)
    with pytest.raises(ValueError, match="storage must be"):
        save_model(path, SPEC, tensors, storage="int8")  # type: ignore[arg-type]
    assert list(path.parent.iterdir()) == []


def test_a_weight_beyond_half_precision_is_named(rng: np.random.Generator, path: Path) -> None:
    tensors = random_tensors(rng, SPEC)
    tensors["proposal.0.token.bias"][1] = 7e4
    with pytest.raises(
        ModelFileError, match=r"'proposal\.0\.token\.bias' does not fit float16.*70000"
    ):
        save_model(path, SPEC, tensors, storage="float16")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(
    rng: np.random.Generator, path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    save_model(path, SPEC, random_tensors(rng, SPEC))
    before = path.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        save_model(path, SPEC, random_tensors(rng, SPEC))
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


FULL_DISK = """
import resource, signal, sys
from dmpc_fast.model_file import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(sys.argv[1], bytes(5000))
except OSError as error:
    print(error.errno)
"""


def test_a_write_that_the_system_stops_half_way_leaves_the_old_file(path: Path) -> None:
    path.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == errno.EFBIG
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_new_file_has_the_permissions_of_any_other(path: Path) -> None:
    write_atomically(path, b"x")
    other = path.with_name("other")
    other.write_bytes(b"x")
    assert path.stat().st_mode == other.stat().st_mode


def test_files_that_cannot_be_read_are_os_errors(tmp_path: Path) -> None:
    for read in (load_model, read_spec, _engine.read_model):
        with pytest.raises(FileNotFoundError, match="absent"):
            read(tmp_path / "absent")
        with pytest.raises(IsADirectoryError):
            read(tmp_path)
    for read in (load_model, read_spec, _engine.read_model):
        with pytest.raises(ModelFileError, match="not a regular file"):
            read(Path("/dev/null"))


def test_only_bytes_are_validated(content: bytes) -> None:
    _engine.validate_model(content)
    with pytest.raises(TypeError):
        _engine.validate_model("text")  # type: ignore[arg-type]


def shifted(header: dict[str, Any], by: int) -> dict[str, Any]:
    """The header with one tensor moved over its neighbours."""
    begin, end = header[SCALE]["data_offsets"]
    header[SCALE]["data_offsets"] = [begin + by, end + by]
    return header


HeaderChange = Callable[[dict[str, Any]], dict[str, Any]]
WRONG_HEADERS: list[tuple[str, HeaderChange]] = [
    ("__metadata__ must hold", lambda h: {k: v for k, v in h.items() if k != "__metadata__"}),
    ("__metadata__ must hold", lambda h: {**h, "__metadata__": []}),
    ("__metadata__ must hold", lambda h: {**h, "__metadata__": {}}),
    ("__metadata__ must hold", lambda h: {**h, "__metadata__": {**h["__metadata__"], "x": "y"}}),
    ("dmpc", lambda h: {**h, "__metadata__": {"dmpc": {}}}),
    ("'dmpc' is not valid JSON", lambda h: {**h, "__metadata__": {"dmpc": "{"}}),
    ("format_version 2.*reads version 1", lambda h: {
        **h, "__metadata__": {"dmpc": SPEC.to_json().replace('n": 1', 'n": 2')}}),
    ("'objective.1.* is unknown", lambda h: {
        **h, "__metadata__": {"dmpc": random_spec().to_json()}}),
    ("'extra' is unknown", lambda h: {**h, "extra": h[SCALE]}),
    (f"'{SCALE}' is missing", lambda h: {k: v for k, v in h.items() if k != SCALE}),
    (f"'{SCALE}' must have exactly", lambda h: {**h, SCALE: {**h[SCALE], "more": 1}}),
    (f"'{SCALE}' must have exactly", lambda h: {**h, SCALE: None}),
    (f"'{SCALE}' must have dtype", lambda h: {**h, SCALE: {**h[SCALE], "dtype": "BF16"}}),
    (f"'{SCALE}' must have dtype", lambda h: {**h, SCALE: {**h[SCALE], "dtype": ["F32"]}}),
    (f"'{SCALE}' must have shape", lambda h: {**h, SCALE: {**h[SCALE], "shape": [3, 1]}}),
    (f"'{SCALE}' must have shape", lambda h: {**h, SCALE: {**h[SCALE], "shape": [3.0]}}),
    (f"'{SCALE}' must have shape", lambda h: {**h, SCALE: {**h[SCALE], "shape": [10**63]}}),
    (f"'{SCALE}' must have data_off", lambda h: {**h, SCALE: {**h[SCALE], "data_offsets": [0, 6]}}),
    (f"'{SCALE}' must have data_off", lambda h: {**h, SCALE: {**h[SCALE], "data_offsets": [12, 0]}}),
    ("must start at byte", lambda h: {
        **h, SCALE: {**h[SCALE], "data_offsets": [2**64, 2**64 + 12]}}),
    ("must start at byte", lambda h: {**h, SCALE: {**h[SCALE], "data_offsets": [0, 12]}}),
    ("must start at byte", lambda h: shifted(h, 4)),
    ("must start at byte", lambda h: shifted(h, -4)),
]  # fmt: skip


@pytest.mark.parametrize(("message", "change"), WRONG_HEADERS)
def test_a_wrong_header_is_refused_by_both(
    path: Path, content: bytes, message: str, change: HeaderChange
) -> None:
    header, data = split(content)
    changed = join(change(header), data)
    assert load_with_both(path, changed) is None
    for read in (load_model, read_spec):
        with pytest.raises(ModelFileError, match=message):
            read(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.replace(b"{", b'{"a": 1, "a": 1, ', 1),
        lambda header: b" " + header,
        lambda header: b"\xef\xbb\xbf" + header,
        lambda header: header.replace(b"F16", b"F\xff6", 1),
        lambda header: header.replace(b"F16", b"F\xed\xa0\x806", 1),
        lambda header: header.replace(b"F16", b"F\\ud8006", 1),
        lambda header: header + b"x",
        lambda header: b"[" * 200_000,
        lambda header: b"",
        lambda header: b"{}",
        lambda header: b"[]",
        lambda header: header[:-1] + b" " * MAX_FILE_HEADER_BYTES + b"}",
    ],
)
def test_a_header_that_is_not_strict_json_is_refused(
    path: Path, content: bytes, change: Callable[[bytes], bytes]
) -> None:
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], content[8 + length :]
    assert load_with_both(path, join(change(header), data)) is None


def test_padding_and_any_order_of_the_header_are_accepted(path: Path, content: bytes) -> None:
    header, data = split(content)
    for spaces in range(4):  # data at any alignment
        text = json.dumps(dict(reversed(header.items()))).encode() + b" " * spaces
        assert load_with_both(path, join(text, data)) is not None


@pytest.mark.parametrize("length", [0, 1, 2**32, 2**63, 2**64 - 1, MAX_FILE_HEADER_BYTES + 1])
def test_a_wrong_header_length_is_refused(path: Path, content: bytes, length: int) -> None:
    assert load_with_both(path, length.to_bytes(8, "little") + content[8:]) is None


@pytest.mark.parametrize("size", range(8))
def test_a_file_too_short_for_its_length_is_refused(path: Path, size: int) -> None:
    # Read as a length, these bytes would ask for more memory than there is.
    assert load_with_both(path, b"\xff" * size) is None


@given(data=st.data())
def test_a_truncated_or_longer_file_is_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.safetensors"
    size = data.draw(st.integers(0, len(content) - 1))
    assert load_with_both(path, content[:size]) is None
    assert load_with_both(path, content + data.draw(st.binary(min_size=1, max_size=9))) is None


@given(
    name=st.sampled_from(sorted(SPEC.tensor_shapes())),
    value=st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-7, 3.5]),
    position=st.integers(0, 10**9),
)
def test_a_value_anywhere_is_loaded_or_refused_by_both(
    tmp_path_factory: pytest.TempPathFactory,
    content: bytes,
    name: str,
    value: float,
    position: int,
) -> None:
    header, data = split(content)
    begin, end = header[name]["data_offsets"]
    dtype = np.dtype({"F32": "<f4", "F16": "<f2"}[header[name]["dtype"]])
    values = np.frombuffer(data[begin:end], dtype).copy()
    values[position % len(values)] = value
    changed = join(header, data[:begin] + values.tobytes() + data[end:])
    path = tmp_path_factory.getbasetemp() / "value.safetensors"
    legal = np.isfinite(value) and not (name.endswith(".scale") and not values.min() > 0)
    assert (load_with_both(path, changed) is not None) == legal
    if not legal:
        with pytest.raises(ModelFileError, match=re.escape(repr(name))):
            load_model(path)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    found = []
    for key in keys:
        found.append((value, key))
        if isinstance(value[key], (dict, list)):
            found += places(value[key])
    return found


def edit_json(data: st.DataObject, value: Any) -> None:
    """Change, remove, rename or nudge one place in a JSON value."""
    container, key = data.draw(st.sampled_from(places(value)))
    kind = data.draw(st.sampled_from(["replace", "remove", "nudge", "rename"]))
    if kind == "nudge" and isinstance(container[key], (int, float)):
        container[key] += data.draw(st.sampled_from([-1, 1, 2, 4, 0.5, 2**31]))
    elif kind == "remove":
        del container[key]
    elif kind == "rename" and isinstance(container, dict):
        container[data.draw(st.text(max_size=4))] = container.pop(key)
    else:
        container[key] = data.draw(JSON_VALUES)


def edit_bytes(data: st.DataObject, content: bytes, limit: int) -> bytes:
    at = data.draw(st.integers(0, limit - 1))
    piece = data.draw(
        st.binary(max_size=3) | st.sampled_from([b"{", b"]", b'"', b"9", b"\\u", b"e"])
    )
    return content[:at] + piece + content[at + data.draw(st.integers(0, 3)) :]


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_both_readers_agree_on_mutated_files(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject
) -> None:
    header, tail = split(content)
    kind = data.draw(st.sampled_from(["description", "header", "header bytes", "bytes"]))
    if kind == "description":
        description = json.loads(header["__metadata__"]["dmpc"])
        edit_json(data, description)
        header["__metadata__"]["dmpc"] = json.dumps(description)
        changed = join(header, tail)
    elif kind == "header":
        edit_json(data, header)
        changed = join(header, tail)
    elif kind == "header bytes":
        text = json.dumps(header).encode()
        changed = join(edit_bytes(data, text, len(text)), tail)
    else:
        changed = edit_bytes(data, content, len(content))
    load_with_both(tmp_path_factory.getbasetemp() / "mutated.safetensors", changed)


IMPORTS = """
import sys
import dmpc_fast
from dmpc_fast.model_file import load_model
load_model(sys.argv[1])
heavy = {"torch", "gymnasium", "mujoco", "minari", "matplotlib", "tqdm"} & set(sys.modules)
assert not heavy, heavy
assert set(dmpc_fast.__all__) <= set(dir(dmpc_fast))
"""


def test_loading_a_model_imports_nothing_heavy(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    subprocess.run([sys.executable, "-c", IMPORTS, path], check=True)


def test_the_package_has_only_its_public_names() -> None:
    import dmpc_fast

    assert dmpc_fast.load_model is load_model
    assert dmpc_fast.ModelFileError is ModelFileError
    assert dmpc_fast.objectives.__name__ == "dmpc_fast.objectives"
    with pytest.raises(AttributeError, match="no attribute 'distillery'"):
        dmpc_fast.distillery  # noqa: B018


MISSING = """
import sys
sys.modules[sys.argv[1]] = None
import dmpc_fast
try:
    getattr(dmpc_fast, sys.argv[2])
except ModuleNotFoundError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("package", "name", "extra"), [("torch", "train", "train"), ("gymnasium", "evaluate", "sim")]
)
def test_an_extra_that_is_not_installed_is_named(package: str, name: str, extra: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MISSING, package, name], capture_output=True, text=True, check=True
    )
    expected = f"dmpc_fast.{name} needs {package}, .*: pip install 'dmpc-fast\\[{extra}\\]'"
    assert re.match(expected, done.stdout)
