# Each target makes .venv on first use and again when pyproject.toml or constraints.txt change.
#   make run CONFIG=experiments/fashion_mnist.yaml ARGS="--data-dir ~/data --seed 1"
#   make test ARGS="-m slow"      make setup PYTHON=/opt/python3.12/bin/python3

PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
CONFIG ?= experiments/quickstart.yaml
ARGS ?=
EXTRAS ?= dev,docs

BIN := .venv/bin
READY := .venv/ready

TABLE = $(BIN)/cosp table $(ARGS) experiments/tables

# Packages are installed without their bytecode, and what is imported writes its own: a shell that forbids that would have
# every process compile torch anew, five seconds each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup run run-text test check audit lock docs bench tables tables-more deploy-test py38-test

setup: $(READY)

run: $(READY)
	$(BIN)/cosp run $(CONFIG) $(ARGS)

# A pretrained text model is fine-tuned, exported and asked: make run-text ARGS="--data-dir DATA", with DATA/20newsgroups.
run-text: $(READY)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[text,models-test]'
	$(BIN)/cosp run experiments/text_quickstart.yaml --export torch --predict experiments/text_quickstart.txt $(ARGS)

# A file at a time, in their order (the longest lie early), on two processes more than cores, as many tests wait for what
# they started; in one process: make test ARGS="-n 0".
test: $(READY)
	$(BIN)/python -m pytest -n $$(( $$(getconf _NPROCESSORS_ONLN) + 2 )) --maxprocesses 8 \
		--dist loadfile --no-loadscope-reorder $(ARGS)

# A server, four boards and their trainers as real processes, over TLS; faults on purpose. Network namespaces need root.
# Two files at a time: much of it is waiting, for what is far or slow on purpose.
deploy-test: $(READY)
	$(BIN)/python -m pytest -m deploy -n 2 --dist loadfile tests/deploy $(ARGS)

# The trainer under Python 3.8 and 3.10 (pyenv's, or on the PATH) with torch 2.0; makes .venv/py3.8 and .venv/py3.10, once.
py38-test: $(READY)
	$(BIN)/python -m pytest -m pythons tests/test_board_pythons.py $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# No file is executed that is read, no secret written down, every pin without a known vulnerability; needs pypi.org. A pin
# that could not be looked up is an error, too.
audit: $(READY) .venv/audit/bin/pip-audit
	$(BIN)/python -m pytest -n 0 -q tests/test_audit.py tests/integration/test_secrets.py
	.venv/audit/bin/pip-audit --strict --disable-pip --no-deps -r constraints.txt

# What a board's node installs, every file by its hash, for all processors: docker/node.lock.
lock: .venv/audit/bin/pip-audit
	.venv/audit/bin/uv pip compile --generate-hashes --universal --python-version 3.11 --no-annotate --no-header \
		-c constraints.txt -o docker/node.lock docker/node.in

.venv/audit/bin/pip-audit: $(READY)
	@$(PYTHON) -m venv .venv/audit
	@.venv/audit/bin/python -m pip install -qq --disable-pip-version-check pip-audit==2.10.1 uv==0.13.9

# The documentation as a site that opens from disk: site/index.html. A dead link, or a page in no menu, is an error.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

bench: $(READY)
	@for benchmark in benchmarks/*.py; do echo "== $$benchmark" >&2; $(BIN)/python $$benchmark $(ARGS) || exit 1; done

# The tables of experiments/results once more, into results/, with three seeds: make tables ARGS="--data-dir DATA". Takes
# hours; stopped and started again, it goes on. tables-more: seeds 3 to 5 of the lines that lie close, the ablations of
# another fleet, longer runs, more learning rates.
tables: $(READY)
	$(TABLE)/digits.yaml
	$(TABLE)/fleets.yaml
	$(TABLE)/ablations.yaml --at weak
	$(TABLE)/methods.yaml --seeds 0,1,2

tables-more: $(READY)
	$(TABLE)/methods.yaml
	$(TABLE)/ablations.yaml --at mild --only base,width_only,timed,drift_weights,server_momentum,paper
	$(TABLE)/ablations.yaml --no-run
	$(TABLE)/methods.yaml --out results/methods_long --at fashion-skewed,fashion-mild --seeds 0,1,2 \
		--only timed,fedavg_smallest_like_ours --set server.until_s=7.2 --set server.evaluate_every_s=0.6
	$(TABLE)/methods.yaml --out results/methods_rates --seeds 0 \
		--only timed,fedavg_smallest_like_ours,fedbuff,fedavg_smallest,fedasync \
		--set 'table.search={training.learning_rate: [0.0005, 0.001, 0.003, 0.006]}'

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "cosp needs Python >= 3.11 and found none: install it, or make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version) and the pinned packages; takes minutes, once" >&2
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt --upgrade pip
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@
