"""Trained models that ship with the package, found by name."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
SUFFIX = ".safetensors"


def shipped_models() -> tuple[str, ...]:
    """Names of the models that this installation holds."""
    return tuple(sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}")))


def name_of(path: str | Path) -> str:
    """What `resolve` takes to find `path` again: a shipped model's name, or the path itself."""
    path = Path(path)
    shipped = path.suffix == SUFFIX and path.parent.resolve() == FOLDER.resolve()
    return path.stem if shipped else str(path)


def resolve(name_or_path: str | Path) -> Path:
    """The model file meant by a path, by a training run's folder, or by a shipped model's name.

    An existing path wins over a name. Raises FileNotFoundError naming what was looked for and the
    models that ship.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    if path.is_dir():
        model = path / f"model{SUFFIX}"
        if model.is_file():
            return model
        raise FileNotFoundError(f"the folder {path} holds no model{SUFFIX}")
    shipped = FOLDER / f"{name_or_path}{SUFFIX}"
    if len(path.parts) == 1 and shipped.is_file():
        return shipped
    raise FileNotFoundError(
        f"no model {str(name_or_path)!r}: expected a file, a run's folder, or one of the shipped "
        f"models {list(shipped_models())}"
    )
