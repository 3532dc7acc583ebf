# Everything a checkout can do. Each target sets up what it needs in .venv; nothing else is touched.
#
#   make demo      drive Hopper-v5 with a shipped model       make lint      every static check
#   make test      the Python tests, Triton's and CUDA's     make format    rewrite files as lint wants
#   make cpp-test  the C++ tests under ASan and UBSan         make clean     remove what make made
#   make hopper    Hopper driven from C++, MuJoCo's C API     make cross     C++ for 64-bit Arm
#   make avx512-test   the AVX-512 kernels on AVX2, against the float64 reference
#
# Needs Python >= 3.10 with its venv module and headers, and a C++20 compiler
# (Debian, Ubuntu: apt install python3-venv python3-dev g++).

PYTHON ?= python3
CXX ?= g++
VENV := .venv
BIN := $(abspath $(VENV)/bin)
STAMPS := $(VENV)/stamps
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

PIP := PATH="$(BIN):$$PATH" "$(BIN)/python" -m pip --disable-pip-version-check
# --no-build-isolation: the build uses the pinned tools of the environment, not the newest ones.
INSTALL := $(PIP) install --quiet --no-build-isolation --constraint constraints.txt

NATIVE := CMakeLists.txt setup.py $(shell find csrc -type f 2>/dev/null)
PYTHON_TREE := dmpc_fast kernels tests benchmarks setup.py
CXX_FILES := $(shell find csrc -type f \( -name '*.hpp' -o -name '*.cpp' -o -name '*.inl' -o -name '*.cu' -o -name '*.cuh' \) 2>/dev/null)

.PHONY: demo test python-test kernel-test cuda-test avx512-test lint format cpp-test hopper cross clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

demo: $(STAMPS)/sim
	"$(BIN)/dmpc-fast" demo $(DEMO_ARGS)

test: python-test kernel-test cuda-test

python-test: $(STAMPS)/dev
	"$(BIN)/python" -m pytest $(PYTEST_ARGS)

# Triton decides once a process whether it interprets kernels, hence a process of its own.
kernel-test: $(STAMPS)/dev
	TRITON_INTERPRET=1 "$(BIN)/python" -m pytest tests/kernels $(KERNEL_TEST_ARGS)

# The CUDA kernels on the CPU, threads as fibers in random order, against the float64 reference.
cuda-test: $(STAMPS)/dev
	PATH="$(BIN):$$PATH" cmake -S . -B build/emulated -G Ninja -DDMPC_WERROR=ON -DBUILD_TESTING=OFF \
	 -DDMPC_CUDA=OFF -DDMPC_CUDA_EMULATED=ON -DPython_EXECUTABLE="$(BIN)/python"
	PATH="$(BIN):$$PATH" cmake --build build/emulated --target _cuda_emulated --parallel $(JOBS)
	DMPC_CUDA_EMULATED=build/emulated "$(BIN)/python" -m pytest tests/cuda $(CUDA_TEST_ARGS)

# The AVX-512 kernels with AVX2's instructions, for processors that have no more than those.
avx512-test: $(STAMPS)/dev
	PATH="$(BIN):$$PATH" cmake -S . -B build/avx512 -G Ninja -DDMPC_WERROR=ON -DDMPC_CUDA=OFF \
	 -DDMPC_AVX512_EMULATED=ON -DPython_EXECUTABLE="$(BIN)/python"
	PATH="$(BIN):$$PATH" cmake --build build/avx512 --target _engine test_engine test_attention --parallel $(JOBS)
	build/avx512/test_engine
	build/avx512/test_attention
	DMPC_AVX512_EMULATED=build/avx512 "$(BIN)/python" -m pytest tests/test_cpu_backend.py tests/test_noise.py

lint: $(STAMPS)/dev
	"$(BIN)/ruff" check $(PYTHON_TREE)
	"$(BIN)/ruff" format --check $(PYTHON_TREE)
	"$(BIN)/mypy"
	"$(BIN)/python" -m mypy.stubtest dmpc_fast._engine --mypy-config-file pyproject.toml \
	 --allowlist tests/engine_stub_allowlist.txt
	"$(BIN)/lint-imports"
	"$(BIN)/clang-format" --dry-run -Werror $(CXX_FILES)

format: $(STAMPS)/dev
	"$(BIN)/ruff" check --fix $(PYTHON_TREE)
	"$(BIN)/ruff" format $(PYTHON_TREE)
	"$(BIN)/clang-format" -i $(CXX_FILES)

cpp-test: $(STAMPS)/tools
	PATH="$(BIN):$$PATH" cmake -S . -B build/sanitize -G Ninja -DCMAKE_BUILD_TYPE=Debug \
	 -DDMPC_PYTHON=OFF -DDMPC_SANITIZE=ON -DDMPC_WERROR=ON
	PATH="$(BIN):$$PATH" cmake --build build/sanitize --parallel $(JOBS)
	PATH="$(BIN):$$PATH" ctest --test-dir build/sanitize --output-on-failure

# STEPS=1000 PACE= drives a whole episode in real time.
STEPS ?= 200
PACE ?= fast
hopper: $(STAMPS)/sim
	PATH="$(BIN):$$PATH" cmake -S . -B build/examples -G Ninja -DDMPC_PYTHON=OFF -DDMPC_WERROR=ON \
	 -DBUILD_TESTING=OFF -DDMPC_EXAMPLES=ON \
	 -DDMPC_MUJOCO_DIR="$$("$(BIN)/python" -c 'import mujoco, pathlib; print(pathlib.Path(mujoco.__file__).parent)')"
	PATH="$(BIN):$$PATH" cmake --build build/examples --parallel $(JOBS)
	build/examples/csrc/examples/hopper dmpc_fast/assets/hopper.safetensors \
	 "$$("$(BIN)/python" -c 'import gymnasium, pathlib; print(pathlib.Path(gymnasium.__file__).parent)')/envs/mujoco/assets/hopper.xml" \
	 $(STEPS) 1 $(PACE)

cross: $(STAMPS)/tools
	PATH="$(BIN):$$PATH" cmake -S . -B build/aarch64 -G Ninja -DCMAKE_TOOLCHAIN_FILE=csrc/aarch64.cmake \
	 -DDMPC_PYTHON=OFF -DDMPC_WERROR=ON
	PATH="$(BIN):$$PATH" cmake --build build/aarch64 --parallel $(JOBS)
	@if command -v qemu-aarch64-static >/dev/null || command -v qemu-aarch64 >/dev/null; then \
	    PATH="$(BIN):$$PATH" ctest --test-dir build/aarch64 --output-on-failure; \
	else echo "compiled, tests not run: qemu-aarch64 is not installed"; fi

clean:
	rm -rf $(VENV) build dist *.egg-info dmpc_fast/*.so \
	    .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find dmpc_fast kernels tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp a step, so that a second call does only what its inputs ask for.

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "make: $(PYTHON) must be Python 3.10 or later; name another one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "make: $(PYTHON) lacks its venv module: apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; \
	    sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || \
	    { echo "make: $(PYTHON) lacks its C headers: apt install python3-dev" >&2; exit 1; }
	@command -v "$(firstword $(CXX))" >/dev/null || \
	    { echo "make: no C++ compiler '$(CXX)': apt install g++" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/tools: $(STAMPS)/venv constraints.txt
	$(PIP) install --quiet --constraint constraints.txt setuptools wheel pybind11 cmake ninja
	@touch $@

$(STAMPS)/sim: $(STAMPS)/tools pyproject.toml $(NATIVE)
	$(INSTALL) --editable ".[sim]"
	@touch $@

$(STAMPS)/dev: $(STAMPS)/tools pyproject.toml $(NATIVE)
	$(INSTALL) --editable ".[sim,train,gpu,dev]"
	@touch $@ $(STAMPS)/sim
