"""Models are found by path, by a run's folder, or by the name under which they ship."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmpc_fast import assets


def test_a_model_is_found_by_path_folder_or_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped, run = tmp_path / "shipped", tmp_path / "run"
    for folder, name in ((shipped, "robot.safetensors"), (run, "model.safetensors")):
        folder.mkdir()
        (folder / name).write_bytes(b"")
    monkeypatch.setattr(assets, "FOLDER", shipped)
    monkeypatch.chdir(tmp_path)
    assert assets.shipped_models() == ("robot",)
    assert assets.resolve("robot") == shipped / "robot.safetensors"
    assert assets.resolve(run) == run / "model.safetensors"
    assert assets.resolve("run/model.safetensors") == Path("run/model.safetensors")
    # What is at hand wins over what ships.
    Path("robot").write_bytes(b"")
    assert assets.resolve("robot") == Path("robot")


def test_what_is_not_there_is_named_with_what_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "robot.safetensors").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(assets, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no model 'dog': .* shipped models \['robot'\]"):
        assets.resolve("dog")
    with pytest.raises(FileNotFoundError, match="no model '../robot'"):
        assets.resolve("../robot")
    with pytest.raises(FileNotFoundError, match=r"empty holds no model.safetensors"):
        assets.resolve(tmp_path / "empty")


def test_the_name_of_a_shipped_model_finds_it_again(tmp_path: Path) -> None:
    for name in assets.shipped_models():
        assert assets.name_of(assets.resolve(name)) == name
    assert assets.name_of(tmp_path / "mine.safetensors") == str(tmp_path / "mine.safetensors")
