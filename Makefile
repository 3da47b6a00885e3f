# make demo | make test : each does all of its own set-up; a second call installs nothing.
VENV    := .venv
BIN     := $(VENV)/bin
DEVICE  ?= cpu
LOCK    := $(if $(filter gpu,$(DEVICE)),requirements-gpu.lock,requirements.lock)
STAMP   := $(VENV)/.installed-$(DEVICE)
PYTHON  ?= $(shell for p in python3 python3.12 python3.11 python3.10; do \
             $$p -c 'import sys; sys.exit(not (3,10) <= sys.version_info[:2] <= (3,12))' \
             2>/dev/null && echo $$p && break; done)
UV      := $(BIN)/uv --no-config

.PHONY: install browser slurm demo nightly test test-slow test-faults bench lint lock clean

install: $(STAMP)

$(STAMP): $(LOCK) requirements-build.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.10, 3.11 or 3.12 is needed (PYTHON=...)" >&2; exit 5; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install -q --require-hashes --no-deps -r requirements-build.lock
	$(UV) pip sync -q --python $(BIN)/python --require-hashes --compile-bytecode \
	    --build-constraints requirements-build.lock $(LOCK) requirements-build.lock
	$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	echo "import zlib" > "$$($(BIN)/python -c 'import sysconfig; \
	    print(sysconfig.get_path("purelib"))')/uvit_harness_zlib.pth"  # as setup.py for the wheel
	$(BIN)/python -c "import models.uvit"  # compiles its kernels
	rm -f $(VENV)/.installed-* && touch $@

# The commands are the user's own; a demo that was stopped goes on where it was.
demo: $(STAMP)
	$(BIN)/harness data digits demo/digits
	$(BIN)/harness train digits_tiny --data demo/digits --output-dir demo/runs/digits_tiny
	$(BIN)/harness train digits_tiny_deep --data demo/digits --output-dir demo/runs/digits_tiny_deep
	@$(BIN)/harness report demo/runs/digits_tiny demo/runs/digits_tiny_deep -o demo/report

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
	$(BIN)/python -m pytest -n 2 $(TESTS)

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow $(TESTS)

test-faults: $(STAMP)
	$(BIN)/python -m pytest -m faults $(TESTS)

# One part: `make bench BENCH="--only step"`; the last results for a page: BENCH=--markdown.
bench: $(STAMP)
	$(BIN)/python -m tests.bench $(if $(filter gpu,$(DEVICE)),--device gpu) $(BENCH)

lint: $(STAMP)
	$(BIN)/ruff check .

# Resolves anew, as of the date in pyproject.toml. uv.lock itself is not kept: it names the
# registry beside every file; the exported locks carry versions and hashes only.
lock: $(STAMP)
	rm -f uv.lock && $(BIN)/uv lock -q
	for device in cpu gpu; do \
	  out=requirements$$(test $$device = gpu && echo -gpu).lock; \
	  $(BIN)/uv export -q --frozen --no-emit-project --no-header --extra $$device --extra test \
	    --format requirements-txt -o $$out > /dev/null; done
	rm -f uv.lock

clean:
	rm -rf $(VENV) build *.egg-info
