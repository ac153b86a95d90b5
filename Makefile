# Set-up and every check, from a clean clone with Python 3.11+, make and PyPI alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo test check lint types contracts tests coverage slow chaos exact gold gpu kernels bench bench-gpu bench-ledger bench-peers compose-prepare compose-tls compose-lock compose-test browser docs clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("defsurvey needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/defsurvey run examples/demo.yaml

test: check

check: lint types contracts tests

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

contracts: install
	$(BIN)/lint-imports

# What depends on the processor runs a second time, as on one with AVX2 and nothing newer.
AVX2 := tests/workers/engine/test_exact.py tests/workers/engine/test_adoption.py

# In the order of the folders, in which what waits for processes comes first: by the number of tests it would come last.
tests: install
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder --durations 40
	$(BIN)/python -m pytest -p tests.avx2 -n auto --dist worksteal $(AVX2)

# The tests once more, with the lines that they reach: at least 90%.
coverage: install
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder --cov --cov-report term:skip-covered

slow: install
	$(BIN)/pytest -m slow --timeout 1200

# Faults injected into real processes, on SQLite and on PostgreSQL; prints a table.
chaos: install
	mkdir -p build
	CHAOS_TABLE=build/chaos.md $(BIN)/pytest -m chaos tests/chaos --timeout 900

# Six reference studies against what they gave when they were recorded, the real model's too (python -m tests.gold.record).
gold: install
	$(BIN)/pytest -m "slow or not slow" tests/gold

gpu: install
	$(BIN)/pytest -m gpu --timeout 1200

# The kernel for GPUs without one: interpreted, and compiled for several. Triton has 300 MB, and torch for CUDA brings it.
kernels: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'triton>=3.3'
	TRITON_INTERPRET=1 $(BIN)/pytest -m kernels tests/workers/engine --timeout 600

# Two hundred requests of each architecture, in every way of batching, token for token against generate.
exact: install
	DEFSURVEY_EXACT_REQUESTS=200 $(BIN)/pytest tests/workers/engine -n 2 --timeout 3000

# The batch against generate, one request at a time and grouped; figures go into benchmarks/RESULTS.md.
bench: install
	$(BIN)/python -m benchmarks.engine

# Random weights of real shapes on a GPU, with nothing else on the card: 7B in bfloat16 and in 4 bits, 13B in 4 bits.
bench-gpu: install
	$(BIN)/python -m benchmarks.gpu
	$(BIN)/python -m benchmarks.gpu --quantisation nf4
	$(BIN)/python -m benchmarks.gpu --shape llama-2-13b --quantisation nf4

# Fenced answers a second, and the memory of big runs; with nothing else on the machine.
bench-ledger: install
	$(BIN)/python -m benchmarks.ledger

# Whole runs beside QSTN, EDSL and Inspect (benchmarks/RESULTS.md says how to install them); with nothing else on the machine.
PEERS ?= build/peers
bench-peers: install
	$(BIN)/python -m benchmarks.peers --venvs $(PEERS)

# Folders and passwords that compose.yaml needs, and the numbers of this account
# (never root's); what is there already is kept.
compose-prepare:
	mkdir -p secrets results studies
	chmod 700 secrets
	for name in postgres redis; do test -s secrets/$$name-password || \
		od -An -tx1 -N24 /dev/urandom | tr -d ' \n' > secrets/$$name-password; done
	touch secrets/anthropic-api-key secrets/openai-api-key secrets/hf-token
	chmod 644 secrets/*
	if test "$$(id -u)" = 0; then chown 1000:1000 results; else test -e .env || \
		printf 'HOST_UID=%s\nHOST_GID=%s\n' "$$(id -u)" "$$(id -g)" > .env; fi

# A certificate authority of your own and a certificate for PostgreSQL and Redis (docs/security.md). The authority's key is
# thrown away: to add a name, make all of them anew.
SECRETS_DIR ?= secrets
TLS_NAMES ?= DNS:postgres,DNS:redis,DNS:localhost,IP:127.0.0.1
EC := -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes
compose-tls:
	set -e; cd $(SECRETS_DIR); trap 'rm -f ca-key.pem' EXIT; umask 077; \
	openssl req -x509 $(EC) -days 3650 -subj /CN=defsurvey -addext keyUsage=critical,keyCertSign,cRLSign \
		-keyout ca-key.pem -out tls-ca.pem; \
	openssl req $(EC) -subj /CN=defsurvey-server -addext subjectAltName=$(TLS_NAMES) -keyout tls-key.pem | \
	openssl x509 -req -CA tls-ca.pem -CAkey ca-key.pem -copy_extensions copy -days 3650 -out tls-certificate.pem; \
	chmod 644 tls-*.pem

# What the images are built from: the newest digest of each image of these tags, and every Python package with its hashes.
# Needs Docker and the images' registry.
compose-lock: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	echo 'setuptools>=77' | $(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --extra monitoring --output-file deploy/requirements.lock pyproject.toml -
	set -e; for image in $$(grep -ohE '[a-z./:0-9-]+@sha256:[0-9a-f]{64}' compose.yaml Dockerfile | sed 's/^:-//' | sort -u); do \
		found=$$(docker buildx imagetools inspect --format '{{json .Manifest}}' "$${image%@*}"); \
		digest=$$(echo "$$found" | grep -o 'sha256:[0-9a-f]*' | head -1); \
		sed -i "s#$${image##*@}#$$digest#" compose.yaml Dockerfile .env.example; done

compose-test: install
	$(BIN)/pytest -m compose --timeout 3600

# The report in headless Chromium (which must be on PATH), and axe-core's rules on it.
AXE := build/browser/node_modules/axe-core/axe.min.js

$(AXE):
	npm install --prefix build/browser --no-audit --no-fund --ignore-scripts --silent axe-core@4.14

browser: install $(AXE)
	$(BIN)/pytest -m browser tests/reports

# The documentation as a site under build/site; a broken link is an error.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build *.egg-info .coverage* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
