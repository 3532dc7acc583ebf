"""Builds the native module by calling CMake; everything else stands in pyproject.toml."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pybind11
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


class CMakeBuild(build_ext):
    """Configures and builds `_engine`, and `_cuda` where nvcc is found, in build/, then installs them
    beside the package's modules.
    """

    def build_extension(self, ext: Extension) -> None:
        package = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        folder = ROOT / "build" / f"native-{sys.implementation.cache_tag}"
        ninja = shutil.which("ninja")
        if ninja is None:
            raise RuntimeError("building the native module needs ninja: pip install ninja")
        options = [
            # Stated, because an isolated build leaves a cache that names tools since deleted.
            f"-DCMAKE_MAKE_PROGRAM={ninja}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DCMAKE_INSTALL_PREFIX={package.parent}",
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            "-DBUILD_TESTING=OFF",
            *os.environ.get("DMPC_CMAKE_ARGS", "").split(),
        ]
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 1))
        for command in (
            ["cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", *options],
            ["cmake", "--build", str(folder), "--target", "python_modules", "--parallel", jobs],
            ["cmake", "--install", str(folder), "--component", "python"],
        ):
            subprocess.run(command, check=True)


def packages() -> tuple[list[str], dict[str, str]]:
    """Packages and their folders; the Triton kernels stand at the top of the tree."""
    names = find_packages(str(ROOT), include=["dmpc_fast", "dmpc_fast.*"])
    folders = {"dmpc_fast": "dmpc_fast", "dmpc_fast.kernels": "kernels"}
    # A checkout finds them through a link in the package, which not every archive keeps.
    return sorted({*names, *folders}), folders


NAMES, FOLDERS = packages()
setup(
    packages=NAMES,
    package_dir=FOLDERS,
    ext_modules=[Extension("dmpc_fast._engine", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
