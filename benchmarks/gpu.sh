#!/usr/bin/env bash
# Everything worth knowing on a GPU, in one command; see benchmarks/README.md.
# CARRIED: a folder with packages that the machine lacks. PYTHON: its interpreter, python3 by default.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
carried=${CARRIED:+:$(cd "$CARRIED" && pwd)}
export PYTHONPATH="$root$carried${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" "$root/benchmarks/gpu.py" "$@"
