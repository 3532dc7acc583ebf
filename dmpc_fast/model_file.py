"""Model files: one ``.safetensors`` file, validated whole.

The file's metadata holds one JSON text, ``dmpc``: the model's description. Its tensors are exactly
those that the description asks for. A model file is untrusted input: header, offsets, dtypes, shapes
and values are all checked, and what is wrong is named in a `ModelFileError`. The C++ reader
(``csrc/core/model_file.cpp``) accepts exactly the same files.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np

from dmpc_fast import strict_json
from dmpc_fast.normalizer import Normalizer
from dmpc_fast.spec import (
    MAX_HEADER_BYTES,
    MAX_LAYERS,
    MAX_MEMBERS,
    MAX_PARAMETERS,
    ModelFileError,
    ModelSpec,
)
from dmpc_fast.strict_json import shown

METADATA_KEY = "dmpc"
_PREFIX_BYTES = 8  # the header's length, little-endian
_MAX_TENSORS = 8 + (MAX_MEMBERS + 2) * (15 + 10 * MAX_LAYERS) + 2 * (MAX_LAYERS + 1)
_MAX_ENTRY_BYTES = 192
#: A file's header is the description, whose quotes may be escaped, and an entry for every tensor.
MAX_FILE_HEADER_BYTES = MAX_HEADER_BYTES + _MAX_TENSORS * _MAX_ENTRY_BYTES
_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}


@dataclass(frozen=True)
class Model:
    """A loaded, validated model.

    tensors: float32, names and shapes of `spec.tensor_shapes()`, the normalizer's included.
    sha256: hexadecimal hash of the file's content.
    """

    spec: ModelSpec
    normalizer: Normalizer
    tensors: dict[str, np.ndarray]
    sha256: str


class _Entry(NamedTuple):
    """Where one tensor lies in the data that follows the header."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int


def load_model(path: str | Path) -> Model:
    """Read and validate a model file.

    Raises `ModelFileError` naming the key or tensor that is wrong, OSError if the file cannot be read.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            header, data_bytes = _read_header(file)
            spec, entries = _parse_header(header, data_bytes)
            data = file.read(data_bytes + 1)
        if len(data) != data_bytes:
            raise ModelFileError("the file changed while it was read")
        tensors = {entry.name: _read_tensor(entry, data) for entry in entries}
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    digest = hashlib.sha256(len(header).to_bytes(_PREFIX_BYTES, "little"))
    digest.update(header)
    digest.update(data)
    return Model(spec, Normalizer.from_tensors(tensors), tensors, digest.hexdigest())


def read_spec(path: str | Path) -> ModelSpec:
    """A model's description; of the file, the header alone is read and validated.

    Raises `ModelFileError` and OSError like `load_model`.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _parse_header(*_read_header(file))[0]
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None


def save_model(
    path: str | Path,
    spec: ModelSpec,
    tensors: Mapping[str, np.ndarray],
    *,
    storage: Literal["float32", "float16"] = "float32",
) -> None:
    """Write a model file atomically: `path` is either what it was or the whole new model.

    tensors: names and shapes of `spec.tensor_shapes()`. With storage float16 the networks' weights
    are rounded to half precision; the normalizer's statistics stay float32.

    Raises `ModelFileError` for tensors that do not fit `spec`, are not finite or do not fit the
    storage's range, and OSError if the file cannot be written.
    """
    from safetensors.numpy import save

    if storage not in ("float32", "float16"):
        raise ValueError(f"storage must be 'float32' or 'float16', got {storage!r}")
    description = spec.to_json()
    ModelSpec.from_json(description)  # what is written can be read
    shapes = spec.tensor_shapes()
    for name in tensors:
        if name not in shapes:
            raise ModelFileError(f"tensor {shown(name)} is unknown")
    stored = {}
    for name, shape in shapes.items():
        if name not in tensors:
            raise ModelFileError(f"tensor {name!r} is missing")
        half = storage == "float16" and not name.startswith("normalizer.")
        stored[name] = _stored(name, tensors[name], shape, np.float16 if half else np.float32)
    write_atomically(Path(path), save(stored, {METADATA_KEY: description}))


def write_atomically(path: str | Path, content: bytes) -> None:
    """Replace the file `path` by `content`: after a crash or error it holds the old or the new, whole.

    Raises OSError (a full disk, say); the old file is then intact and nothing else is left behind.
    """
    path = Path(path)
    partial = path.parent / f".{secrets.token_hex(8)}.partial"
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stored(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """`array` as it goes into the file; what could not be loaded again is refused."""
    array = np.asarray(array)
    if array.shape != shape or array.dtype.kind != "f":
        raise ModelFileError(
            f"tensor {name!r} must be a float array of shape {list(shape)}, "
            f"got {array.dtype} {list(array.shape)}"
        )
    with np.errstate(over="ignore"):
        result: np.ndarray = np.ascontiguousarray(array, dtype)
    if np.isfinite(array).all() and not np.isfinite(result).all():
        raise ModelFileError(
            f"tensor {name!r} does not fit {np.dtype(dtype)}: its largest magnitude is "
            f"{np.abs(array).max():g}"
        )
    _check_values(name, result)
    return result


def _read_header(file: BinaryIO) -> tuple[bytes, int]:
    """The header of an open file and the number of bytes that follow it."""
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise ModelFileError("not a regular file")
    prefix = file.read(_PREFIX_BYTES)
    # Of a file that is too short to tell, nothing more is read.
    length = int.from_bytes(prefix, "little") if len(prefix) == _PREFIX_BYTES else 0
    if length > MAX_FILE_HEADER_BYTES:
        raise ModelFileError(
            f"the header must be at most {MAX_FILE_HEADER_BYTES} bytes long, got {length}"
        )
    header = file.read(length)
    data_bytes = status.st_size - _PREFIX_BYTES - length
    if len(prefix) != _PREFIX_BYTES or len(header) != length or data_bytes < 0:
        raise ModelFileError(
            f"the file is truncated: its {status.st_size} bytes cannot hold its header"
        )
    return header, data_bytes


def _parse_header(header: bytes, data_bytes: int) -> tuple[ModelSpec, list[_Entry]]:
    """The description and the tensors' places, in the order of the data, which they tile exactly."""
    try:
        if not header.startswith(b"{"):
            raise ValueError("expected '{' at byte 0")
        members = strict_json.parse(header.decode("utf-8"))
    except ValueError as error:
        raise ModelFileError(f"the header is not valid JSON: {error}") from None
    spec = _parse_metadata(members.pop("__metadata__", None))
    shapes = spec.tensor_shapes()
    if sum(math.prod(shape) for shape in shapes.values()) > MAX_PARAMETERS:
        raise ModelFileError(f"the model has more than {MAX_PARAMETERS} numbers")
    for name in members:
        if name not in shapes:
            raise ModelFileError(f"tensor {shown(name)} is unknown")
    for name in shapes:
        if name not in members:
            raise ModelFileError(f"tensor {name!r} is missing")
    entries = [_parse_entry(name, members[name], shape) for name, shape in shapes.items()]
    entries.sort(key=lambda entry: entry.begin)
    end = 0
    for entry in entries:
        if entry.begin != end:
            raise ModelFileError(
                f"tensor {entry.name!r} must start at byte {end} of the data, got {entry.begin}"
            )
        end = entry.end
    if end != data_bytes:
        raise ModelFileError(
            f"the tensors need {end} bytes of data, the file has {data_bytes}: it is "
            f"{'truncated' if data_bytes < end else 'too long'}"
        )
    return spec, entries


def _parse_metadata(metadata: Any) -> ModelSpec:
    if not isinstance(metadata, dict) or metadata.keys() != {METADATA_KEY}:
        raise ModelFileError(f"__metadata__ must hold the text {METADATA_KEY!r} and nothing else")
    if not isinstance(metadata[METADATA_KEY], str):
        raise ModelFileError(f"metadata {METADATA_KEY!r} must be text")
    return ModelSpec.from_json(metadata[METADATA_KEY])


def _parse_entry(name: str, value: Any, shape: tuple[int, ...]) -> _Entry:
    """One tensor's entry in the header, checked against the shape that the description asks for."""
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise ModelFileError(f"tensor {name!r} must have exactly dtype, shape and data_offsets")
    dtype = _DTYPES.get(value["dtype"]) if isinstance(value["dtype"], str) else None
    if dtype is None:
        raise ModelFileError(
            f"tensor {name!r} must have dtype F32 or F16, got {shown(value['dtype'])}"
        )
    if not _is_sizes(value["shape"]) or tuple(value["shape"]) != shape:
        raise ModelFileError(
            f"tensor {name!r} must have shape {list(shape)}, got {shown(value['shape'])}"
        )
    offsets, size = value["data_offsets"], math.prod(shape) * dtype.itemsize
    if not _is_sizes(offsets) or len(offsets) != 2 or offsets[1] - offsets[0] != size:
        raise ModelFileError(
            f"tensor {name!r} must have data_offsets that span {size} bytes, got {shown(offsets)}"
        )
    return _Entry(name, dtype, shape, offsets[0], offsets[1])


def _is_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(x, int) and not isinstance(x, bool) and x >= 0 for x in value
    )


def _read_tensor(entry: _Entry, data: bytes) -> np.ndarray:
    """A tensor of its own memory, float32."""
    count = math.prod(entry.shape)
    stored = np.frombuffer(data, entry.dtype, count, offset=entry.begin)
    array = stored.astype(np.float32).reshape(entry.shape)
    _check_values(entry.name, array)
    return array


def _check_values(name: str, array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        raise ModelFileError(f"tensor {name!r} holds NaN or infinity")
    if name.startswith("normalizer.") and name.endswith(".scale") and not (array > 0).all():
        raise ModelFileError(f"tensor {name!r} must be positive")
