"""The front of the command line: help, errors and exit codes."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys

import pytest

from dmpc_fast.backends.base import BackendUnavailableError
from dmpc_fast.cli import main as front
from dmpc_fast.spec import ModelFileError

HEAVY = ("torch", "gymnasium", "mujoco", "minari", "triton", "matplotlib", "tqdm")


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    """Run `doctor` with a body that raises `error`."""

    def run(args: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(importlib.import_module(front.COMMANDS["doctor"]), "run", run)
    return front.main(["doctor", *options])


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from dmpc_fast.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print('heavy:', sorted(set({HEAVY!r}) & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout
    # The help of a long name stands on the line after it.
    listed = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("    ")}
    assert set(front.COMMANDS) <= listed


def test_commands_are_called_what_the_table_says() -> None:
    for name, module in front.COMMANDS.items():
        subparsers = argparse.ArgumentParser().add_subparsers()
        importlib.import_module(module).add_parser(subparsers)
        assert list(subparsers.choices) == [name]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("seed must be\nan integer"),
        ModelFileError("discount is wrong"),
        BackendUnavailableError("no GPU"),
        FileNotFoundError(2, "No such file or directory", "absent.safetensors"),
        OSError(28, "No space left on device"),
        ModuleNotFoundError("No module named 'torch'", name="torch"),
        ModuleNotFoundError("No module named 'gymnasium.envs'", name="gymnasium.envs"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_expected_errors_are_one_line_and_exit_2(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail_with(error, monkeypatch) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("dmpc-fast doctor: ")
    assert printed.err.count("\n") == 1


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(ModuleNotFoundError("No module named 'minari'", name="minari"), monkeypatch)
    assert 'pip install "dmpc-fast[sim]"' in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--debug"], []])
def test_debug_shows_the_traceback(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail_with(ValueError("wrong"), monkeypatch, *options) == 2
    assert ("Traceback" in capsys.readouterr().err) == bool(options)


def test_debug_works_before_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: argparse.Namespace) -> int:
        raise ValueError("wrong")

    monkeypatch.setattr(importlib.import_module(front.COMMANDS["doctor"]), "run", run)
    assert front.main(["--debug", "doctor"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [TypeError("a defect"), ModuleNotFoundError("No module named 'dmpc_fast.x'", name="x")]
)
def test_defects_are_not_dressed_up(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(type(error)):
        fail_with(error, monkeypatch)


def test_interrupt_exits_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail_with(KeyboardInterrupt(), monkeypatch) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["unknown"],
        ["doctor", "--unknown"],
        ["train", "--dataset", "x", "--out", "y", "--stage", "dynamic.patch=1"],
    ],
)
def test_wrong_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        front.main(arguments)
    assert stopped.value.code == 2
    assert "usage: dmpc-fast" in capsys.readouterr().err
