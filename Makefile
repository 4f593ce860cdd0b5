# make demo   everything from a fresh clone to out/demo/index.html
# make test   everything from a fresh clone to the whole test suite
# make lint   ruff
#
# Any of them takes PYTHON=python3.12 to choose the interpreter. All paths are relative: a clone may lie in a folder
# whose name has spaces.

PYTHON ?= python3
VENV := .venv
IN_VENV := $(VENV)/bin/python
STAMP := $(VENV)/.inkling-installed
RETRY := make $(MAKECMDGOALS) PYTHON=python3.12

# An interpreter that somebody asked for by name must be the one in .venv; the default takes what is there.
ifneq ($(origin PYTHON),file)
  VERSION := -c 'import sys; print(sys.version_info[:3])'
  ifneq ($(shell "$(PYTHON)" $(VERSION) 2>/dev/null),$(shell $(IN_VENV) $(VERSION) 2>/dev/null))
    REBUILD := rebuild
  endif
endif

.PHONY: demo test lint clean rebuild

demo: $(STAMP)
	@$(IN_VENV) -m generators demo --out out/demo

test: $(STAMP)
	@$(IN_VENV) -m pytest

lint: $(STAMP)
	@$(IN_VENV) -m ruff check .

clean:
	rm -rf $(VENV) build out *.egg-info

# The stamp is touched last, so an installation that failed or was interrupted is done again.
$(STAMP): setup.cfg pyproject.toml $(REBUILD)
	@"$(PYTHON)" -c '' 2>/dev/null || { \
	  echo 'Inkling needs Python 3.10 or newer, and "$(PYTHON)" does not run here: install it, or name another: $(RETRY)' >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "Inkling needs Python 3.10 or newer, and this is `"$(PYTHON)" --version 2>&1`: name a newer one: $(RETRY)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo 'The Python "$(PYTHON)" cannot make environments (no venv or ensurepip): on Debian or Ubuntu, apt install python3-venv' >&2; exit 1; }
	@rm -f $@
	@if [ -n "$(REBUILD)" ] || ! $(IN_VENV) -m pip --version >/dev/null 2>&1; then \
	  "$(PYTHON)" -m venv --clear $(VENV) || { echo 'Could not make the environment $(VENV): the message above says why.' >&2; exit 1; }; fi
	@echo 'Installing Inkling and what it needs into $(VENV) (once, about a minute).'
	@$(IN_VENV) -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]' || { \
	  echo 'The installation failed: the message above says why. It will be tried again by the next make.' >&2; exit 1; }
	@touch $@
