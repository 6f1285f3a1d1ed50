#!/usr/bin/env bash
# Sets up a venv (.venv beside this file) and runs the main job: ./demo.sh [arguments of `pliant demo`].
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

[ -x "$here/.venv/bin/python" ] || python3 -m venv "$here/.venv"
echo "Setting up $here/.venv; the first time downloads PyTorch." >&2
"$here/.venv/bin/python" -m pip install --quiet -c "$here/constraints.txt" "$here[train]"
exec "$here/.venv/bin/pliant" demo "$@"
