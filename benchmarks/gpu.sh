#!/bin/bash
# Measures the training programs on a GPU that is lent for minutes, in at most $LIMIT seconds (540):
#
#     benchmarks/gpu.sh [FLAGS of python -m experiments.studies.speed.gpu]
#
# writes $OUT/gpu.json (runs/gpu/gpu.json), piece after piece. The same command continues. If the program
# crashes in a piece, it is started again and goes on. $PYTHON names an interpreter; otherwise .venv/bin/python
# and python3 are tried. The folder $CARRIED (.carried) may hold what a machine without a network lacks:
# wheels/*.whl, data/ogbench/*.npz and the gpu.json of an earlier machine. docs/guides/xla_flags.md says how to
# fill it. JAX_PLATFORMS=cpu tries the script out where there is no GPU.
set -uo pipefail
limit=${LIMIT:-540} carried=${CARRIED:-.carried}
cd "$(dirname "$0")/.." || exit 2
out=${OUT:-runs/gpu}

fail() { echo "gpu.sh: $1" >&2; exit 2; }

# Jobs and runs share the GPU: none takes three quarters of its memory in advance.
export XLA_PYTHON_CLIENT_PREALLOCATE=false PYTHONUNBUFFERED=1
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

python=""
for candidate in ${PYTHON:-.venv/bin/python python3}; do
  missing=$("$candidate" - 2>&1 <<'CHECK'
import importlib, os, sys
if sys.version_info < (3, 11):
    sys.exit(f"it is Python {sys.version.split()[0]}, and 3.11 is needed")
for name in ("jax", "flax", "optax", "chex", "orbax.checkpoint", "absl", "numpy", "rich"):
    try:
        importlib.import_module(name)
    except ImportError as error:
        sys.exit(f"it cannot import {name} ({error})")
import jax
if os.environ.get("JAX_PLATFORMS") != "cpu" and jax.default_backend() != "gpu":
    sys.exit(f"its JAX sees no GPU but {jax.devices()}; install valuelab[cuda], or set JAX_PLATFORMS=cpu")
CHECK
  ) && { python=$candidate; break; }
  reasons="${reasons:+$reasons; }$candidate: $(tail -n 1 <<<"$missing")"
done
[ -n "$python" ] || fail "no Python here can run this: $reasons"

if compgen -G "$carried/wheels/*.whl" >/dev/null; then
  site=$(mktemp -d)
  "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" \
    "$carried"/wheels/*.whl || fail "the wheels in $carried/wheels cannot be installed"
  export PYTHONPATH="$PYTHONPATH:$site"
fi
mkdir -p "$out" || fail "OUT is $out, which cannot be made"
[ -f "$out/gpu.json" ] || cp "$carried/gpu.json" "$out/" 2>/dev/null
[ -d "$carried/data" ] && set -- "--data_dir=$carried/data" "$@"

# Runs leave many files, and $OUT may be limited to a few.
work=${WORKDIR:-${TMPDIR:-/tmp}/valuelab-gpu}
while left=$((limit - SECONDS)) && [ "$left" -gt 40 ]; do
  timeout --kill-after=5 $((left - 5)) "$python" -m experiments.studies.speed.gpu \
    --out="$out" --workdir="$work" --seconds=$((left - 40)) "$@"
  status=$?
  case $status in 0 | 1 | 2 | 124 | 137) exit $status ;; esac
  echo "gpu.sh: the program ended with status $status and is started again" >&2
done
