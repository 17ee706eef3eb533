# make reproduce   train plain and residual nets on real data, judge, and compare with the committed record
# make claims      every claim that takes minutes, each judged; ENGINE=ray or slurm trains elsewhere
#                  (relu, crops and stacks need: classicnets data prepare fashion_mnist)
# make faults      every injected fault in full numbers
# make test-peers  logits against torchvision's, timm's and Keras's, on weights drawn anew
# make golden      renew tests/golden from torchvision's and Keras's networks
# make test        the test suite;  make test-fast  without what starts programs
# make lint        ruff and basedpyright;  make lock  renew requirements.lock
# make browser     Debian's Chromium, in which the tests open the report page
# PYTHON=python3.12 chooses the interpreter (3.11 to 3.13); another choice builds .venv anew.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.built-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# A worker that crashes ends the tests: xdist would wait forever for the rest of its files.
PYTEST := $(BIN)/python -m pytest -n 2 --max-worker-restart 0

ENGINE ?= local
CLAIMS := alexnet_size three_by_three inception_size factorised_size bottleneck_size relu saturation crops stacks \
    batch_norm shortcuts degradation

.PHONY: browser reproduce claims test test-fast test-slow faults golden test-peers lint format lock

reproduce: $(STAMP)
	$(BIN)/python -m experiments.degradation

claims: $(STAMP)
	for claim in $(CLAIMS); do $(BIN)/python -m experiments.$$claim --engine $(ENGINE) || status=$$?; done; exit $$status

test: $(STAMP)
	$(PYTEST) --dist loadfile

test-fast: $(STAMP)
	$(PYTEST) --dist loadfile -m 'not process and not slow and not gpu and not peer'

test-slow: $(STAMP)
	$(PYTEST) --dist loadfile -m slow

# Kills, signals, full disks, damaged files: a few of each are in the suite, here are all (an hour; the clock's need
# Debian's faketime, the disks' root).
faults: $(STAMP)
	CLASSICNETS_FAULTS=all $(PYTEST) tests/faults tests/weights/test_formats.py tests/weights/test_torch.py

# The peers' own activations, in an environment of their own (torch alone takes 5 GB).
.venv-peers:
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --editable '.[peers,test]' || { rm -r .venv-peers; exit 1; }

golden: .venv-peers
	cd tests && ../.venv-peers/bin/python -m golden.make

test-peers: .venv-peers
	.venv-peers/bin/python -m pytest -m peer tests/weights

browser:
	command -v chromium && command -v chromedriver || { apt-get update && apt-get install --yes chromium chromium-driver; }

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --upgrade \
	    --extra test --extra dev --custom-compile-command "make lock" pyproject.toml -o requirements.lock

# The environment holds what the lock says, hash by hash, and the project itself in editable form.
$(STAMP): requirements.lock
	$(PYTHON) -c 'import sys; sys.exit("classicnets needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@
