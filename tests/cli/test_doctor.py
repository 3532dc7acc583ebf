"""What `dmpc-fast doctor` says of the machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dmpc_fast.backends.registry import available
from dmpc_fast.cli.doctor import cpu, version
from dmpc_fast.cli.main import main


def test_json_names_every_backend_and_extra(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["backends"] == {
        name: reason or "available" for name, reason in available().items()
    }
    assert set(report["extras"]) == {"sim", "train", "gpu"}
    assert report["cpu"]["usable_cores"] >= 1


def test_table_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for name in available():
        assert f"  {name} " in printed


def test_instruction_sets_come_from_the_kernel(tmp_path: Path) -> None:
    description = tmp_path / "cpuinfo"
    description.write_text(
        "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 fma avx512f\n\n"
        "processor\t: 1\nmodel name\t: Other\n",
        encoding="utf-8",
    )
    found = cpu(description)
    assert found["name"] == "Some CPU"
    assert found["instruction_sets"] == ["avx2", "fma", "avx512f"]


def test_an_unknown_system_has_unknown_instruction_sets(tmp_path: Path) -> None:
    assert cpu(tmp_path / "absent")["instruction_sets"] is None


def test_versions_of_what_is_not_installed_are_none() -> None:
    assert version("numpy") is not None
    assert version("no-such-distribution") is None
