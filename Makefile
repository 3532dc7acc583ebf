# Everything a checkout can do. Each target sets up what it needs in .venv; nothing else is touched.
#
#   make demo      drive Hopper-v5 with a shipped model       make lint      every static check
#   make test      the Python tests                           make format    rewrite files as lint wants
#   make cpp-test  the C++ tests under ASan and UBSan         make clean     remove what make made
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
PYTHON_TREE := dmpc_fast tests benchmarks setup.py
CXX_FILES := $(shell find csrc -type f \( -name '*.hpp' -o -name '*.cpp' -o -name '*.inl' \) 2>/dev/null)

.PHONY: demo test lint format cpp-test clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

demo: $(STAMPS)/sim
	"$(BIN)/dmpc-fast" demo $(DEMO_ARGS)

test: $(STAMPS)/dev
	"$(BIN)/python" -m pytest $(PYTEST_ARGS)

lint: $(STAMPS)/dev
	"$(BIN)/ruff" check $(PYTHON_TREE)
	"$(BIN)/ruff" format --check $(PYTHON_TREE)
	"$(BIN)/mypy"
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

clean:
	rm -rf $(VENV) build dist *.egg-info dmpc_fast/*.so \
	    .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find dmpc_fast tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

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
	$(INSTALL) --editable ".[sim,train,dev]"
	@touch $@ $(STAMPS)/sim
