#!/usr/bin/env bash
# Sets up a venv (.venv-test) and runs the tests: ./test.sh [pytest arguments].
# PLIANT_VENV names a venv that is ready, and nothing is installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

venv=${PLIANT_VENV:-.venv-test}
if [ -z "${PLIANT_VENV:-}" ]; then
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet -c constraints.txt -e ".[dev]"
fi
# whole files at a time, so that what a file sets up once is set up once
exec "$venv/bin/python" -m pytest -n auto --maxprocesses 4 --dist loadfile "$@"
