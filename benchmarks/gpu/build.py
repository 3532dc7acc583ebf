"""Builds `dmpc_fast._cuda` in a checkout that has none, by CMake alone, for this machine's device."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from benchmarks.gpu.deadline import Deadline
from benchmarks.gpu.processes import ROOT, environment, stop

FOLDER = ROOT / "build" / "gpu" / "cmake"
NEEDED = ("cmake", "ninja", "nvcc")
#: Attributes of a device that the driver tells.
MAJOR, MINOR = 75, 76


def build(deadline: Deadline, log: Path, folder: Path = FOLDER) -> dict[str, Any]:
    """Build what is missing or older than its sources; {"status", "seconds", "reason"}.

    status: ``there``, ``built``, or ``failed`` with the reason: everything else can be measured then.
    """
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    module = ROOT / "dmpc_fast" / f"_cuda{suffix}"
    if module.exists() and module.stat().st_mtime >= newest_source():
        return {"status": "there"}
    binaries = str(Path(sys.executable).parent)
    path = os.pathsep.join([binaries, os.environ.get("PATH", os.defpath), "/usr/local/cuda/bin"])
    missing = [name for name in NEEDED if shutil.which(name, path=path) is None]
    if importlib.util.find_spec("pybind11") is None:
        missing.append("pybind11")
    if missing:
        return {"status": "failed", "reason": f"not installed: {', '.join(missing)}"}
    begin = deadline.remaining()
    jobs = str(os.cpu_count() or 1)
    for command in (
        ["cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", "-DBUILD_TESTING=OFF",
         "-DCMAKE_BUILD_TYPE=Release", f"-DPython_EXECUTABLE={sys.executable}",
         f"-DCMAKE_CUDA_ARCHITECTURES={architecture()}"],
        ["cmake", "--build", str(folder), "--target", "_cuda", "--parallel", jobs],
    ):  # fmt: skip
        reason = _run(command, path, deadline, log)
        if reason is not None:
            return {"status": "failed", "reason": reason}
    built = folder / module.name
    if not built.exists():
        return {"status": "failed", "reason": f"the build made no {module.name}"}
    partial = module.with_suffix(".partial")
    shutil.copy2(built, partial)
    partial.replace(module)
    return {"status": "built", "seconds": round(begin - deadline.remaining(), 1)}


def newest_source() -> float:
    """When a source of the module changed last, in seconds of the epoch."""
    folders = [ROOT / "csrc" / name for name in ("cuda", "bindings", "core", "include")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return max(path.stat().st_mtime for path in files)


def architecture(library: str = "libcuda.so.1") -> str:
    """What CMake calls the first device's architecture; the newest one where there is no driver."""
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return "90a-real"
    driver.cuInit(0)
    numbers = [ctypes.c_int(0), ctypes.c_int(0)]
    for number, attribute in zip(numbers, (MAJOR, MINOR), strict=True):
        driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, 0)
    major, minor = (number.value for number in numbers)
    return "90a-real" if (major, minor) == (9, 0) else f"{major}{minor}-real"


def _run(command: list[str], path: str, deadline: Deadline, log: Path) -> str | None:
    """Why a command failed; None where it did not."""
    with log.open("a", encoding="utf-8") as stream:
        stream.write(f"\n$ {' '.join(command)}\n")
        stream.flush()
        process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, cwd=ROOT,
            env=environment({"PATH": path}), start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(timeout=deadline.remaining())
        except subprocess.TimeoutExpired:
            return f"{command[0]} was not ready in time"
        finally:
            stop(process)
    return None if status == 0 else f"{command[0]} ended with status {status}: see the log"
