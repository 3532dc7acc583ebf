"""The command `dmpc-fast`: finds the command's module, runs it, and turns expected errors into a line.

A command is a module with `add_parser(subparsers)` and `run(args) -> int`. Modules import only the
standard library and `dmpc_fast.spec` at their top, so that help costs nothing; `run` imports the rest.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence

#: Name of each command and the module that holds it, in the order of the help.
COMMANDS = {
    "demo": "dmpc_fast.cli.demo",
    "train": "dmpc_fast.cli.train",
    "distill": "dmpc_fast.cli.distill",
    "finetune": "dmpc_fast.cli.finetune",
    "evaluate": "dmpc_fast.cli.evaluate",
    "compare": "dmpc_fast.cli.compare",
    "bench": "dmpc_fast.cli.bench",
    "diagnose": "dmpc_fast.cli.diagnose",
    "gates": "dmpc_fast.cli.gates",
    "collect": "dmpc_fast.cli.collect",
    "experiment": "dmpc_fast.cli.experiment",
    "export": "dmpc_fast.cli.export",
    "info": "dmpc_fast.cli.info",
    "doctor": "dmpc_fast.cli.doctor",
}
#: The extra of this package that brings a module which is not a dependency of the bare package.
EXTRA_OF = {
    "torch": "train",
    "tensorboard": "train",
    "tqdm": "train",
    "gymnasium": "sim",
    "mujoco": "sim",
    "minari": "sim",
    "h5py": "sim",
    "pyarrow": "sim",
    "imageio": "sim",
    "matplotlib": "sim",
    "triton": "gpu",
}
EXIT_ERROR = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0, 2 for an expected error, 130 after Ctrl-C."""
    parser = build_parser()
    args = parser.parse_args(argv)
    module = importlib.import_module(COMMANDS[args.command])
    try:
        code: int = module.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe went away; keep the interpreter's own flush at exit from failing too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        if args.debug:
            traceback.print_exc()
        print(f"dmpc-fast {args.command}: {message}", file=sys.stderr)
        return EXIT_ERROR


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; imports their modules, which are light, but not what they use."""
    parser = argparse.ArgumentParser(
        prog="dmpc-fast",
        description="Diffusion Model Predictive Control: learn from logged data, plan, drive the robot.",
    )
    parser.add_argument("--version", action=_VersionAction, nargs=0, help="print the version")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in COMMANDS.values():
        command = importlib.import_module(module).add_parser(subparsers)
        command.add_argument(
            "--debug",
            action="store_true",
            default=argparse.SUPPRESS,
            help="show the traceback of an error",
        )
    return parser


def explain(error: Exception) -> str | None:
    """One line for an error that a user can cause, or None for one that is a defect of ours."""
    from dmpc_fast.backends.base import BackendUnavailableError
    from dmpc_fast.triton_availability import KernelsUnavailableError

    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA_OF:
            return str(error) if error.name is None else None
        return (
            f"this command needs {package}, which is not installed: "
            f'pip install "dmpc-fast[{EXTRA_OF[package]}]"'
        )
    if isinstance(error, (ValueError, OSError, BackendUnavailableError, KernelsUnavailableError)):
        return " ".join(str(error).split()) or type(error).__name__
    return None


class _VersionAction(argparse.Action):
    """Prints the version; the package's metadata is read only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from dmpc_fast import __version__

        print(__version__)
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
