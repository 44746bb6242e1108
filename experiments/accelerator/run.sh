#!/usr/bin/env bash
# All that is worth an accelerator's time, on a bare Linux machine with Python, JAX and a GPU or TPU, without a network.
#
#   experiments/accelerator/run.sh [--out DIR] [--minutes 9] [--parts NAME,...] [--tiny]
#
# WHEELS  folder with the wheels of needs.txt that the machine lacks   [wheels]
# PACKED  folder with the parts that pack.sh made                      [packed]
# KDJAX_DATA, KDJAX_SHARED     where data and golden vectors are; unpacked from PACKED if not set
set -euo pipefail
cd "$(dirname "$0")/../.."

wheels=${WHEELS:-wheels} packed=${PACKED:-packed} unpacked=${TMPDIR:-/tmp}/kdjax-accelerator
if compgen -G "$wheels/*.whl" > /dev/null; then
  python3 -m pip install -q --no-index --no-deps --upgrade --target "$unpacked/site" "$wheels"/*.whl
  export PYTHONPATH="$unpacked/site${PYTHONPATH:+:$PYTHONPATH}"
fi
if compgen -G "$packed/data.tar.xz.*" > /dev/null; then
  mkdir -p "$unpacked/data"
  cat "$packed"/data.tar.xz.* | tar -xJ -C "$unpacked/data"
  export KDJAX_DATA=${KDJAX_DATA:-$unpacked/data} KDJAX_SHARED=${KDJAX_SHARED:-$unpacked/data/shared}
fi
export PYTHONPATH=".${PYTHONPATH:+:$PYTHONPATH}" XLA_PYTHON_CLIENT_PREALLOCATE=false
exec python3 experiments/accelerator/parts.py "$@"
