# Two commands matter: `make run` and `make test`. README.md tells the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements.lock
TEST_LOCK := tests/requirements.lock
NPM_DIR := tests/browser/node_modules

# Python would compile our modules at every start where it may not write beside them (PYTHONDONTWRITEBYTECODE): that
# doubles the time to the first answer of the API.
COMPILE := $(BIN)/python -m compileall -q appliance hw

.PHONY: run install test test-long browser-modules bench lint system-packages lock clean

run: install
	@$(COMPILE)
	@exec $(BIN)/kiln run

install: $(VENV)/.installed

$(VENV)/.installed: $(LOCK) pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --no-deps -r $(LOCK)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation --editable .
	@$(COMPILE)
	@touch $@

$(VENV)/.test-installed: $(VENV)/.installed $(TEST_LOCK)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --no-deps -r $(TEST_LOCK)
	@touch $@

test: $(VENV)/.test-installed browser-modules
	@$(COMPILE)
	$(BIN)/python -m pytest -m "not long"

test-long: $(VENV)/.test-installed browser-modules
	@$(COMPILE)
	$(BIN)/python -m pytest -m "long" --timeout 3600

# The players that the browser tests play with; those tests skip where there is no Chromium or no npm.
browser-modules:
	@if command -v npm >/dev/null && command -v chromium >/dev/null; then $(MAKE) --no-print-directory $(NPM_DIR)/.installed; fi

$(NPM_DIR)/.installed: tests/browser/package-lock.json
	@cd tests/browser && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

bench: $(VENV)/.test-installed
	@$(COMPILE)
	$(BIN)/python -m tests.bench

lint: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/mypy

# Root: what some tests use and pip can't bring. Without them those tests skip and say so.
system-packages:
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
		chromium chromium-driver nghttp2-client wrk libsrt1.5-openssl srt-tools nginx libnginx-mod-rtmp \
		python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
		gstreamer1.0-plugins-bad \
		$(if $(shell command -v npm),,npm nodejs)

# Both locks: one set of versions for Python 3.11 to 3.13 on x86-64 and arm64, hashes, no index address.
lock:
	$(PYTHON) -m venv build/lock && build/lock/bin/python -m pip install --quiet uv
	build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --no-annotate --extra build pyproject.toml --output-file $(LOCK)
	build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --no-annotate --extra test --constraint $(LOCK) pyproject.toml --output-file $(TEST_LOCK)

clean:
	rm -rf build *.egg-info
