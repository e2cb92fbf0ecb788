# Two commands for everyone: `make demo` and `make test`. Both install what they need into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ON_ALL_CORES := --numprocesses auto --maxprocesses 4 --dist worksteal

.PHONY: demo test test-long test-video busy weizmann paper-small strong recipe motion motion-compare teach ablation flow-methods stored-flow fusion calibration unknown live-soak serve-load serve-hostile serve-replicas browser inference layers int8 video inflation plot gpu torture lock clean

demo: $(VENV)/installed
	$(BIN)/rgbflow demo --out demo

test: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(ON_ALL_CORES)

# What takes minutes, such as the whole demo
test-long: $(VENV)/installed
	$(BIN)/python -m pytest $(ON_ALL_CORES) -m long

# The published video networks at their full size
test-video: $(VENV)/installed
	$(BIN)/python -m pytest -m full_size

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "rgbflow needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(if $(LOCKED),$(BIN)/python .ci/lock.py install)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

# Versions and hashes of the packages that .ci/run installs
lock: $(VENV)/installed
	$(BIN)/python .ci/lock.py write

# Results that take longer than a test: docs/results
VIDEOS ?= ../shared/data/weizmann
weizmann: $(VENV)/installed
	$(BIN)/python benchmarks/weizmann.py $(VIDEOS)

DATA ?= ../shared/data
paper-small: $(VENV)/installed
	$(BIN)/python benchmarks/paper_small.py $(DATA)

strong: $(VENV)/installed
	$(BIN)/python benchmarks/strong.py $(DATA)

recipe: $(VENV)/installed
	$(BIN)/python benchmarks/recipe.py $(DATA) $(RECIPE)

# An hour on one core: the weights that `--weights motion` takes
motion: $(VENV)/installed
	$(BIN)/python benchmarks/motion.py weights

motion-compare: $(VENV)/installed
	$(BIN)/python benchmarks/motion.py compare $(DATA)

TEACH_CACHE ?= .teach
teach: $(VENV)/installed
	$(BIN)/python benchmarks/teach.py $(DATA) $(TEACH_CACHE)

ablation: $(VENV)/installed
	$(BIN)/python benchmarks/ablation.py $(VIDEOS)

flow-methods: $(VENV)/installed
	$(BIN)/python benchmarks/flow_methods.py $(VIDEOS)

stored-flow: $(VENV)/installed
	$(BIN)/python benchmarks/stored_flow.py $(VIDEOS)

fusion: $(VENV)/installed
	$(BIN)/python benchmarks/fusion.py

calibration: $(VENV)/installed
	$(BIN)/python benchmarks/calibration.py $(DATA)

unknown: $(VENV)/installed
	$(BIN)/python benchmarks/unknown.py $(DATA)

BUNDLE ?= runs/mine
VIDEO ?= clip.mp4
live-soak: $(VENV)/installed
	$(BIN)/python benchmarks/live.py $(BUNDLE) $(VIDEO)

browser: $(VENV)/installed
	$(BIN)/python benchmarks/browser.py $(BUNDLE) $(VIDEO)

serve-load: $(VENV)/installed
	$(BIN)/python benchmarks/serve.py $(VIDEO)

serve-hostile: $(VENV)/installed
	$(BIN)/python benchmarks/hostile.py $(BUNDLE) $(VIDEO)

serve-replicas: $(VENV)/installed
	$(BIN)/python benchmarks/replicas.py $(BUNDLE) $(VIDEO)

busy: $(VENV)/installed
	$(BIN)/python benchmarks/busy.py

# Against other networks, on an idle machine; transformers is of one of these
inference: $(VENV)/installed
	$(BIN)/python -m pip install --quiet transformers
	$(BIN)/python benchmarks/inference.py $(DATA)/ucf101-sample --idle

layers: $(VENV)/installed
	$(BIN)/python benchmarks/layers.py $(DATA)/ucf101-sample

video: $(VENV)/installed
	$(BIN)/python benchmarks/video.py $(DATA)/ucf101-sample

# Inflated networks against single frames; about half an hour of one core
inflation: $(VENV)/installed
	$(BIN)/python benchmarks/inflation.py $(DATA)

# One picture of accuracy and time, from the figures in docs/results
plot: $(VENV)/installed
	$(BIN)/python benchmarks/plot.py

int8: $(VENV)/installed
	$(BIN)/python benchmarks/int8.py

# Damage, kills, full disks and long runs, in one to two hours; a broken-off run goes on
torture: $(VENV)/installed
	nice $(BIN)/python benchmarks/torture.py

# On a machine with an NVIDIA GPU, at most 8 minutes
gpu: $(VENV)/installed
	$(BIN)/python benchmarks/gpu.py

clean:
	rm -rf $(VENV) demo build dist
