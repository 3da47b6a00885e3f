# make demo | make test : each does all of its own set-up; a second call installs nothing.
# STACK=paddle3 is an environment of its own; PADDLE=3.2.0, or a wheel's file, swaps Paddle alone.
# CUDA=system: paddle2.6's GPU build takes the machine's CUDA 11 and cuDNN 8, not the locked ones.
STACK   ?= paddle2.6
DEVICE  ?= cpu
STACKS  := paddle2.6 paddle3
$(if $(filter $(STACK),$(STACKS)),,$(error no stack $(STACK): STACK is one of $(STACKS)))
VENV    := .venv$(if $(filter-out paddle2.6,$(STACK)),-$(STACK))
BIN     := $(VENV)/bin
BUILD   := locks/build.lock
# Paddle's 3.x GPU wheels are in its own index only: there is no lock of them, and PADDLE_INDEX
# (an address or a folder of wheels) takes its place.
LOCKED  := $(or $(wildcard locks/$(STACK)-$(DEVICE).lock),locks/$(STACK)-cpu.lock)
WHEEL   := paddlepaddle$(if $(filter gpu,$(DEVICE)),-gpu)
OWN     := $(if $(filter %-$(DEVICE).lock,$(LOCKED)),,own)
NEWEST  := $(shell sed -n 's/^paddlepaddle==\([^ ]*\).*/\1/p' $(LOCKED))
SWAP    := $(if $(filter %.whl,$(PADDLE)),$(PADDLE),$(if $(PADDLE)$(OWN),$(WHEEL)==$(or $(PADDLE),$(NEWEST))))
SOURCE  := $(if $(PADDLE_INDEX),$(if $(wildcard $(PADDLE_INDEX)),--find-links,--index) $(PADDLE_INDEX))
CUDA    := locked
$(if $(filter locked system,$(CUDA)),,$(error CUDA=$(CUDA): CUDA is locked or system))
# Paddle 3.x's wheel declares its own.
CUDALOCK := $(if $(filter gpu-locked,$(DEVICE)-$(CUDA)),$(wildcard locks/$(STACK)-cuda11.lock))
WHEEL_IS := $(if $(filter %.whl,$(PADDLE)),$(shell sha256sum < $(PADDLE) | cut -c-8))
STAMP   := $(VENV)/.installed-$(DEVICE)$(subst $() ,,$(addprefix -,$(notdir $(PADDLE)) $(WHEEL_IS) $(filter system,$(CUDA))))
PYTHON  ?= $(shell for p in python3 python3.12 python3.11 python3.10; do \
             $$p -c 'import sys; sys.exit(not (3,10) <= sys.version_info[:2] <= (3,12))' \
             2>/dev/null && echo $$p && break; done)
UV      := $(BIN)/uv --no-config

.PHONY: install browser axe slurm demo acceptance nightly test test-paddle test-slow test-faults \
        test-gpu-build fuzzer soak bench lint docs docs-cli corpus dist lock clean

install: $(STAMP)

$(STAMP): $(LOCKED) $(BUILD) $(CUDALOCK) pyproject.toml $(filter %.whl,$(PADDLE))
	@test -z "$(OWN)" || test -n "$(PADDLE_INDEX)$(filter %.whl,$(PADDLE))" || \
	  { echo "$(STACK)'s GPU wheel is in Paddle's own index: name it by PADDLE_INDEX=... (docs/stacks.md)" >&2; exit 2; }
	@test -n "$(PYTHON)" || { echo "Python 3.10, 3.11 or 3.12 is needed (PYTHON=...)" >&2; exit 5; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install -q --require-hashes --no-deps -r $(BUILD)
	rm -f $(VENV)/.installed-*
	$(UV) pip sync -q --python $(BIN)/python --require-hashes --compile-bytecode \
	    --build-constraints $(BUILD) $(LOCKED) $(BUILD)
ifneq ($(SWAP),)
	$(UV) pip uninstall -q --python $(BIN)/python paddlepaddle paddlepaddle-gpu
	# What this Paddle needs beside is added (3.0.0 wants astor), what is there stays as it is, but
	# that a GPU wheel's CUDA libraries may replace those that torch is locked with.
	$(UV) pip freeze -q --python $(BIN)/python | grep == $(if $(OWN),| grep -v ^nvidia-) > $(VENV)/constraints.txt
	$(UV) pip install -q --python $(BIN)/python --constraint $(VENV)/constraints.txt $(SOURCE) $(SWAP)
endif
	rm -rf $(VENV)/cuda11 && find $(VENV)/lib/python3*/site-packages/paddle/libs -type l -delete
ifneq ($(CUDALOCK),)
	# Beside site-packages: torch's CUDA 12 has libraries of the same names there. Paddle opens its own
	# by names with a version and without, and looks into paddle/libs first.
	$(UV) pip sync -q --python $(BIN)/python --target $(VENV)/cuda11 --require-hashes $(CUDALOCK)
	libs=$$(echo $(VENV)/lib/python3*/site-packages/paddle/libs) && \
	  for library in $(VENV)/cuda11/nvidia/*/lib/*.so.*; do name=$$(basename $$library) && \
	  ln -sr $$library $$libs/$$name && ln -sfr $$library $$libs/$${name%%.so.*}.so || exit; done
endif
	$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	echo "import zlib" > "$$($(BIN)/python -c 'import sysconfig; \
	    print(sysconfig.get_path("purelib"))')/uvit_harness_zlib.pth"  # as setup.py for the wheel
	$(BIN)/python -c "import models.uvit"  # compiles its kernels
	touch $@

# The commands are the user's own; a demo that was stopped goes on where it was.
demo: $(STAMP)
	$(BIN)/harness data digits demo/digits
	$(BIN)/harness train digits_tiny --data demo/digits --output-dir demo/runs/digits_tiny
	$(BIN)/harness train digits_tiny_deep --data demo/digits --output-dir demo/runs/digits_tiny_deep
	@$(BIN)/harness report demo/runs/digits_tiny demo/runs/digits_tiny_deep -o demo/report

# Everything that a machine with GPUs has to show; ACCEPTANCE=--rehearse goes the way on a CPU.
acceptance: $(STAMP)
	$(BIN)/harness acceptance -o acceptance $(ACCEPTANCE)

# A night's benchmark and its gate; `make nightly NIGHTLY=--smoke` goes the way on a CPU.
nightly: $(STAMP)
	$(BIN)/python -m baselines.nightly $(NIGHTLY)

# The browser that the tests of report.html drive (Debian's, as root); without it they are skipped.
browser:
	@command -v chromium > /dev/null || { apt-get update -qq && \
	  apt-get install -y -qq --no-install-recommends chromium > /dev/null; }

# The scheduler that tests/slurm starts for itself (Debian's, as root); without it they are skipped.
slurm:
	@dpkg -s slurmctld slurmd slurm-client munge > /dev/null 2>&1 || { apt-get update -qq && \
	  apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge \
	  > /dev/null; }

test: $(STAMP)
	$(BIN)/python -m pytest -n 3 --dist worksteal $(TESTS)

# What depends on Paddle's version: the pipeline runs all on one stack and this on the other.
test-paddle:
	$(MAKE) test TESTS="tests/models tests/harness/base tests/harness/training \
	    tests/harness/doctor/test_probe.py tests/harness/conversion tests/harness/reproduction \
	    tests/harness/digits tests/eval/sampling tests/eval/evaluation/test_evaluate_run.py \
	    tests/test_stacks.py"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow $(TESTS)

test-faults: $(STAMP)
	$(BIN)/python -m pytest -m faults $(TESTS)

# What test-faults knocks at every reader with, guided by coverage; without it that is skipped.
fuzzer: $(STAMP)
	$(UV) pip install -q --python $(BIN)/python --target $(VENV)/fuzzer --no-deps --require-hashes \
	    -r locks/fuzzer.lock

# axe-core, by which the tests of pages judge them in that browser; without it those are skipped.
axe: $(STAMP)
	$(UV) pip install -q --python $(BIN)/python --target $(VENV)/axe --no-deps --require-hashes \
	    -r locks/axe.lock

# Cycles of training, evaluating, reporting and faults, in which nothing may grow: `make soak SOAK=10m`.
# Goes on where it was stopped; the page is soak/soak.md.
SOAK ?= 2h
soak: $(STAMP)
	$(BIN)/python -m tests.soak --for $(SOAK) --out soak

# Paddle's GPU build in an environment beside the others; where a GPU is, the tests that need one too.
test-gpu-build:
	$(MAKE) install STACK=paddle2.6 DEVICE=gpu VENV=.venv-gpu
	.venv-gpu/bin/python -m pytest -m "gpu or gpu_build" $(TESTS)

# One part: `make bench BENCH="--only step"`; the last results for a page: BENCH=--markdown.
bench: $(STAMP)
	$(BIN)/python -m tests.bench $(if $(filter gpu,$(DEVICE)),--device gpu) $(BENCH)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/python -m mypy

# The page of every command and option, from their own help; a test holds the two equal.
docs-cli: $(STAMP)
	$(BIN)/python -m tests.cli_page > docs/cli.md

# The pages as a site in site/; a link that leads nowhere is an error.
docs: $(STAMP)
	test -x .venv-docs/bin/python || $(BIN)/python -m venv --without-pip .venv-docs
	$(UV) pip sync -q --python .venv-docs/bin/python --require-hashes locks/docs.lock
	.venv-docs/bin/python -m sphinx -q -W --keep-going -c docs . site
	cp site/README.html site/index.html

# What this commit writes, in small, for every later version to read (tests/corpus/README.md).
corpus: $(STAMP)
	$(BIN)/python tests/corpus/make.py

# The sdist, and the wheel that is built from it.
dist: $(STAMP)
	rm -rf dist
	$(UV) build -q --no-build-isolation --python $(BIN)/python -o dist .

# Resolves anew, each stack as of its date. uv.lock itself is not kept: it names the registry
# beside every file; the exported locks carry versions and hashes only.
lock: $(STAMP)
	rm -f uv.lock && $(BIN)/uv lock -q
	for device in cpu gpu; do \
	  $(BIN)/uv export -q --frozen --no-emit-project --no-header --extra $$device --extra live \
	    --extra test --format requirements-txt -o locks/paddle2.6-$$device.lock > /dev/null; done
	$(BIN)/uv export -q --frozen --no-emit-project --no-header --only-group cuda11 \
	  --format requirements-txt -o locks/paddle2.6-cuda11.lock > /dev/null
	$(BIN)/uv export -q --frozen --no-emit-project --no-header --only-group docs \
	  --format requirements-txt -o locks/docs.lock > /dev/null
	rm -f uv.lock
	$(UV) pip compile -q pyproject.toml --extra cpu --extra test --override locks/paddle3.txt \
	    --exclude-newer 2026-11-01 --universal --python-version 3.10 --generate-hashes \
	    --no-header --no-emit-index-url -o locks/paddle3-cpu.lock > /dev/null

clean:
	rm -rf .venv .venv-* build dist site *.egg-info
